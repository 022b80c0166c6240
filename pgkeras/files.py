"""Files that a reader sees whole or not at all, logs of whole lines, and whether a file has changed."""

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
"""The file by which a process holds a directory."""

_ELSEWHERE = "give another --out"


def check_encoding(path: Path) -> None:
    """Checks that TensorFlow, to which names of files are UTF-8, can open a path.

    Raises:
        ConfigError: It cannot.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{os.fsencode(path)!r}: this path is not text in this process's encoding, {sys.getfilesystemencoding()}; "
            "set PYTHONUTF8=1, or LC_ALL=C.UTF-8, or choose another directory"
        ) from error


def write_whole(path: Path, text: str) -> None:
    """Writes a file so that it appears whole or not at all.

    Raises:
        RunError: It cannot be written.
    """
    with replacing(path) as scratch:
        scratch.write(text.encode())


@contextmanager
def replacing(path: Path, suffix: str = "") -> Iterator[IO[Any]]:
    """A scratch file, open for writing, that takes the place of ``path`` when the body succeeds.

    Args:
        path: What it replaces.
        suffix: What the scratch file's name ends in, for those who go by that.

    Raises:
        RunError: It cannot be written.
    """
    try:
        with whole_file(path, suffix) as scratch:
            yield scratch
    except PgkerasError:  # the body's; some are OSErrors, too
        raise
    except OSError as error:
        raise RunError(f"cannot write {path}: {error}") from error


@contextmanager
def changing_alone(directory: Path) -> Iterator[None]:
    """Has others wait who would change something in a directory at the same time; they have to use this, too.

    Raises:
        OSError: The directory cannot be opened.
    """
    import fcntl  # which Windows has not

    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def whole_file(path: Path, suffix: str = "", mode: int = 0o644, like: Path | None = None) -> Iterator[IO[Any]]:
    """What :func:`replacing` gives, for those whose errors are others.

    Args:
        path: What the scratch file replaces.
        suffix: What its name ends in.
        mode: Who may do what with it.
        like: A file whose mode it gets instead, and whose owner and group as far as this process may give them.

    Raises:
        OSError: It cannot be written.
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
    """Makes a directory if it is not there.

    Args:
        directory: The directory.
        kind: What to call it in an error.
        advice: What to do where it cannot be made.

    Raises:
        RunError: It cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make {kind} {directory}: {error}; {advice}") from error


def hold(directory: Path, kind: str, busy: str, advice: str = _ELSEWHERE) -> IO[str]:
    """Makes a directory if need be, and holds it against all others, in this process too; on Windows it is not held.

    Args:
        directory: The directory.
        kind: What to call it in an error.
        busy: What to say where it is held already.
        advice: What to do where it cannot be made or written to.

    Returns:
        A file in it, :data:`LOCK`: it is held as long as this is open.

    Raises:
        RunError: It is held already, or it cannot be made or written to.
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
    """Locks a file by flock. Locks by lockf are the process's, which gets one twice and loses it at the first close.

    Raises:
        BlockingIOError: It is locked.
    """
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        gc.collect()  # a run that was dropped without its finish() may be waiting for this, with its lock
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


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


class Lines:
    """A text file that grows by whole lines; opened when the first is written.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    def append(self, line: str) -> None:
        """Writes one line, which must not have an end of line in it.

        Raises:
            RunError: It cannot be written; then nothing of it is left.
        """
        data = f"{line}\n".encode()
        try:
            if self._file is None:
                self._file = self.path.open("ab", buffering=0)
            # One call of the system: whoever reads beside us, or after a kill, finds the line or does not.
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
