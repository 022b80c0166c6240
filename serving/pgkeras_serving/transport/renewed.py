"""Reloads files that are replaced while the server runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from pgkeras.errors import ConfigError
from pgkeras.files import stamps

__all__ = ["RenewedFiles"]

logger = logging.getLogger(__name__)

_T = TypeVar("_T")


class RenewedFiles(Generic[_T]):
    """A value read from files, and read again when one of them changes. Invalid files leave the last value in place.

    Args:
        files: The files; None entries are ignored.
        read: Reads the value. Raises ConfigError or OSError if the files are invalid.
        kept: Start of the log message for invalid files, such as "tokens stay as they were"; None logs nothing.

    Attributes:
        value: The last valid value.

    Raises:
        ConfigError: The files are invalid at first.
        OSError: The files cannot be read at first.
    """

    def __init__(self, files: Sequence[Path | None], read: Callable[[], _T], kept: str | None = None) -> None:
        self._files, self._read, self._kept = files, read, kept
        self._stamp = stamps(files)  # before reading, so that a change during it is noticed
        self._refused: Hashable = None
        self.value = read()

    def renew(self) -> bool:
        """Reads the files again if they have changed.

        Invalid files are read at every call, because the cause may not change them, for example a permission. They are
        logged once.

        Returns:
            Whether the files have changed and are valid.
        """
        found = stamps(self._files)
        if found == self._stamp:
            return False
        try:
            self.value = self._read()
        except (ConfigError, OSError) as error:  # perhaps only one of the files has been replaced so far
            if self._kept is not None and found != self._refused:
                logger.error("%s: %s", self._kept, error)
            self._refused = found
            return False
        self._stamp = found
        return True
