"""Detects that a file has changed."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from pathlib import Path

__all__ = ["stamp", "stamps"]


def stamp(file: Path) -> Hashable | None:
    """A value that changes when a file is replaced or written to; None if there is no file."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def stamps(files: Iterable[Path | None]) -> Hashable:
    """A value that changes when one of several files does; None is no file."""
    return tuple(stamp(file) for file in files if file is not None)
