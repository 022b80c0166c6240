"""Atomic file writes, directory locks, line-by-line logs, and detection of changed files."""

from __future__ import annotations

import contextlib
import gc
import os
import stat
import sys
import tempfile
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pgkeras.errors import ConfigError, PgkerasError, RunError

__all__ = [
    "LOCK",
    "Lines",
    "changing_alone",
    "check_encoding",
    "hold",
    "make_directory",
    "replacing",
    "stamp",
    "stamps",
    "whole_file",
    "write_whole",
]

LOCK = ".lock"
"""Name of the lock file with which a process holds a directory."""

_ELSEWHERE = "give another --out"


def check_encoding(path: Path) -> None:
    """Checks that a path can be encoded as UTF-8, which TensorFlow requires.

    Raises:
        ConfigError: The path cannot be encoded.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{os.fsencode(path)!r}: this path is not valid in this process's encoding, {sys.getfilesystemencoding()}; "
            "set PYTHONUTF8=1, or LC_ALL=C.UTF-8, or choose another directory"
        ) from error


def write_whole(path: Path, text: str) -> None:
    """Writes a file atomically.

    Raises:
        RunError: The file cannot be written.
    """
    with replacing(path) as scratch:
        scratch.write(text.encode())


@contextmanager
def replacing(path: Path, suffix: str = "") -> Iterator[IO[Any]]:
    """Opens a temporary file for writing, and moves it to ``path`` if the body succeeds.

    Args:
        path: The file to create or replace.
        suffix: Suffix of the temporary file's name, for libraries that depend on it.

    Raises:
        RunError: The file cannot be written.
    """
    try:
        with whole_file(path, suffix) as scratch:
            yield scratch
    except PgkerasError:  # raised by the body; some of these are OSErrors as well
        raise
    except OSError as error:
        raise RunError(f"cannot write {path}: {error}") from error


@contextmanager
def changing_alone(directory: Path) -> Iterator[None]:
    """Serializes changes of a directory between processes that use this context.

    Raises:
        OSError: The directory cannot be opened.
    """
    import fcntl  # not available on Windows

    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def whole_file(path: Path, suffix: str = "", mode: int = 0o644, like: Path | None = None) -> Iterator[IO[Any]]:
    """Like :func:`replacing`, but raises OSError.

    Args:
        path: The file to create or replace.
        suffix: Suffix of the temporary file's name.
        mode: Permissions of the file.
        like: A file from which to copy the permissions instead, and the owner and group if this process may set them.

    Raises:
        OSError: The file cannot be written.
    """
    name: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=suffix, delete=False) as scratch:
            name = Path(scratch.name)
            yield scratch
            scratch.flush()
            os.fsync(scratch.fileno())
        if like is not None:
            found = like.stat()
            mode = stat.S_IMODE(found.st_mode)
            with contextlib.suppress(PermissionError):
                os.chown(name, found.st_uid, found.st_gid)
        name.chmod(mode)
        name.replace(path)
    finally:
        if name is not None:
            name.unlink(missing_ok=True)


def make_directory(directory: Path, kind: str, advice: str = _ELSEWHERE) -> None:
    """Creates a directory if it does not exist.

    Args:
        directory: The directory.
        kind: Its name in an error message.
        advice: What to do if it cannot be created, for the error message.

    Raises:
        RunError: The directory cannot be created.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot create {kind} {directory}: {error}; {advice}") from error


def hold(directory: Path, kind: str, busy: str, advice: str = _ELSEWHERE) -> IO[str]:
    """Creates a directory if it does not exist, and locks it. On Windows, it is not locked.

    Args:
        directory: The directory.
        kind: Its name in an error message.
        busy: The error message if it is already locked, by another process or by this one.
        advice: What to do if it cannot be created or written to, for the error message.

    Returns:
        The open lock file, :data:`LOCK`. Closing it releases the lock.

    Raises:
        RunError: The directory is already locked, or cannot be created or written to.
    """
    make_directory(directory, kind, advice)
    try:
        file = (directory / LOCK).open("w")
        if sys.platform != "win32":
            try:
                _lock(file)
            except OSError:
                file.close()
                raise
    except BlockingIOError as error:
        raise RunError(busy) from error
    except OSError as error:
        raise RunError(f"cannot write to {kind} {directory}: {error}; {advice}") from error
    return file


def _lock(file: IO[str]) -> None:
    """Locks a file with flock.

    lockf would not work: its locks belong to the process, which could lock a file twice and would lose the lock when it
    closes any of its descriptors.

    Raises:
        BlockingIOError: The file is already locked.
    """
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        gc.collect()  # an unreferenced run without finish() may still hold the lock
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def stamp(file: Path) -> Hashable | None:
    """Returns a value that changes when a file is replaced or written to, or None if it does not exist."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def stamps(files: Iterable[Path | None]) -> Hashable:
    """Returns a value that changes when one of the files does. None entries are ignored."""
    return tuple(stamp(file) for file in files if file is not None)


class Lines:
    """A text file to which whole lines are appended. It is opened with the first line.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    def append(self, line: str) -> None:
        """Appends one line, which must not contain a line break.

        Raises:
            RunError: The line cannot be written. The file then contains no part of it.
        """
        data = f"{line}\n".encode()
        try:
            if self._file is None:
                self._file = self.path.open("ab", buffering=0)
            # A single system call, so that a concurrent reader, or one after a kill, never sees a part of the line.
            written = self._file.write(data)
            if written != len(data):
                self._file.truncate(self._file.tell() - written)
                raise OSError(f"the disk took {written} of {len(data)} bytes")
        except OSError as error:
            raise RunError(f"cannot write {self.path}: {error}") from error

    def close(self) -> None:
        """Closes the file, if it was opened."""
        if self._file is not None:
            self._file.close()
            self._file = None
