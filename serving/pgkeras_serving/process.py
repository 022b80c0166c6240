"""A serving process: its event loop, the signals that end it, and what it says when it is ready."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterable
from pathlib import Path

from pgkeras.errors import ConfigError
from pgkeras.files import whole_file
from pgkeras.v1 import policy_pb2

__all__ = ["event_loop", "inventory", "stop_signal", "write_port"]

_MOST_LISTED = 10


def event_loop() -> asyncio.AbstractEventLoop:
    """A new event loop: uvloop's, where there is one."""
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def stop_signal() -> asyncio.Event:
    """An event that SIGTERM, SIGINT and SIGHUP set; for the main thread."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in {signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGTERM)}:
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    return stop


def inventory(descriptions: Iterable[policy_pb2.Policy]) -> str:
    """What is served, in a few words."""
    found = list(descriptions)
    listed = [f"{d.name} (version {d.version}, {d.engine})" for d in found[:_MOST_LISTED]]
    more = [f"{len(found) - len(listed)} more"] if len(listed) < len(found) else []
    return ", ".join([*listed, *more]) or "no policy yet"


def write_port(file: Path, port: int) -> None:
    """Writes a port number to a file.

    Raises:
        ConfigError: It cannot be written.
    """
    try:
        with whole_file(file, mode=0o600) as scratch:
            scratch.write(f"{port}\n".encode())
    except OSError as error:
        raise ConfigError(f"port_file: cannot write {file}: {error.strerror}") from error
