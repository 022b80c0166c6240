"""Relay: forwards the connections of one Unix-domain socket to the workers' sockets.

The kernel distributes the connections of a TCP port among the processes that listen on it, but not those of a
Unix-domain socket. gRPC for Python can take over neither a listening socket nor a connection accepted by another
process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["Relay"]

_BYTES = 65536


class Relay:
    """Forwards connections to workers.

    Args:
        targets: Returns the sockets of the workers that accept calls.
    """

    def __init__(self, targets: Callable[[], Sequence[Path]]) -> None:
        self._targets = targets
        self._open: dict[Path, int] = {}
        self._server: asyncio.Server | None = None
        self._path: Path | None = None

    async def start(self, path: Path) -> None:
        """Starts listening.

        Raises:
            OSError: The socket cannot be bound.
        """
        self._server = await asyncio.start_unix_server(self._connected, path)
        self._path = path

    def stop(self) -> None:
        """Stops accepting connections, and removes the socket's file."""
        if self._server is not None and self._path is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forwards a connection to the worker with the fewest connections."""
        for target in sorted(self._targets(), key=lambda path: self._open.get(path, 0)):
            # Counted before connecting, so that simultaneous connections are distributed.
            self._open[target] = self._open.get(target, 0) + 1
            try:
                if await _forward(reader, writer, target):
                    return
            finally:
                self._open[target] -= 1
        writer.close()


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Path) -> bool:
    """Forwards a connection until it is closed. Returns False if the worker does not accept it."""
    try:
        inner_reader, inner_writer = await asyncio.open_unix_connection(target)
        # A gRPC server sends first. A worker that has just died sends nothing, although its socket may accept.
        greeting = await inner_reader.read(_BYTES)
    except OSError:
        return False
    if not greeting:
        inner_writer.close()
        return False
    await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer, greeting))
    return True


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes = b"") -> None:
    """Copies ``data`` and then the reader's bytes to the writer, until one of them is closed."""
    try:
        # Not every event loop raises OSError for a write to a closed stream.
        while (data := data or await reader.read(_BYTES)) and not writer.is_closing():
            writer.write(data)
            await writer.drain()
            data = b""
    except OSError:
        pass
    finally:
        writer.close()
