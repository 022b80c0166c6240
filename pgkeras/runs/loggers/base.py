"""What a logger is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pgkeras.files import write_whole

__all__ = ["BUNDLE", "CURVE", "FILM", "Logger", "Record", "load_or_create_id"]

Record = Mapping[str, float | None]
"""An epoch's numbers by name, None for one that is not finite. ``epoch`` and ``env_steps`` are always there."""

CURVE, FILM, BUNDLE = "learning_curve", "film", "bundle"
"""What a run leaves for a logger to keep: two files and a directory."""


def load_or_create_id(file: Path, make: Callable[[], str]) -> str:
    """The id of a run with a tracker: what the file says, or where there is none what is made and written into it."""
    if not file.exists():
        write_whole(file, make())
    return file.read_text(encoding="utf-8")


class Logger:
    """Logs one record per epoch. What a logger has no use for, it leaves as it is here."""

    wants_films = False
    """Whether a film of the exported policy is to be made for it."""

    def begin(self, config: Mapping[str, Any], *, anew: bool = False) -> None:
        """Takes the content of ``config.json``, before the first record and again when a run is resumed.

        Args:
            config: The content.
            anew: Whether epochs are played again by other settings: to one that cannot drop those that it has, what
                comes now is another run.
        """

    def write(self, record: Record) -> None:
        """Appends a record."""
        raise NotImplementedError

    def forget_after(self, epoch: int, env_steps: int) -> None:
        """Drops the records after an epoch, which ended after that many environment steps."""
        raise NotImplementedError

    def keep(self, what: str, path: Path) -> None:
        """Keeps what a run has left; also after :meth:`close`, as policies are exported then.

        Args:
            what: :data:`CURVE`, :data:`FILM` or :data:`BUNDLE`.
            path: The file or the directory.
        """

    def close(self) -> None:
        """Flushes everything."""
