"""Files: noticing that one has changed, and writing one whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Hashable
from pathlib import Path

__all__ = ["stamp", "write_whole"]


def stamp(file: Path) -> Hashable | None:
    """What changes when a file is replaced or written to; None when there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def write_whole(file: Path, text: str) -> None:
    """Writes a file, for its owner alone, so that a reader sees all of it or none.

    Raises:
        OSError: It cannot be written.
    """
    descriptor, scratch = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(scratch).replace(file)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
