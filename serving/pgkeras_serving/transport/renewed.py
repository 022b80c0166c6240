"""Files that may be renewed while the server runs."""

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
    """What some files hold, read again when one of them changes. While they are of no use, what was read before stays.

    Args:
        files: The files; None is no file.
        read: Reads them. Raises ConfigError or OSError where they are of no use.
        kept: What the log says of files of no use, such as "tokens stay as they were"; None says nothing.

    Attributes:
        value: As they were when they were last of use.

    Raises:
        ConfigError: They are of no use from the beginning.
        OSError: They cannot be read.
    """

    def __init__(self, files: Sequence[Path | None], read: Callable[[], _T], kept: str | None = None) -> None:
        self._files, self._read, self._kept = files, read, kept
        self._stamp = stamps(files)  # before they are read: what changes meanwhile is read again
        self._refused: Hashable = None
        self.value = read()

    def renew(self) -> bool:
        """Reads the files if they have changed.

        Files of no use are read again at every call, since what was wrong may leave no trace in them, such as a
        permission; the log has them once.

        Returns:
            Whether they have, and are of use.
        """
        found = stamps(self._files)
        if found == self._stamp:
            return False
        try:
            self.value = self._read()
        except (ConfigError, OSError) as error:  # it may be that only one of them has been replaced yet
            if self._kept is not None and found != self._refused:
                logger.error("%s: %s", self._kept, error)
            self._refused = found
            return False
        self._stamp = found
        return True
