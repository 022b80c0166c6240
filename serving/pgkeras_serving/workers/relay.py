"""Relay: connections at one Unix-domain socket, passed on to those of the workers.

On TCP the kernel shares a port's connections among the processes that listen there. For Unix-domain sockets it does
not, and gRPC for Python can take over neither a listening socket nor a connection that another process has accepted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["Relay"]

_BYTES = 65536


class Relay:
    """Passes on bytes.

    Args:
        targets: Names the sockets of the workers that take calls now.
    """

    def __init__(self, targets: Callable[[], Sequence[Path]]) -> None:
        self._targets = targets
        self._open: dict[Path, int] = {}
        self._server: asyncio.Server | None = None
        self._path: Path | None = None

    async def start(self, path: Path) -> None:
        """Listens.

        Raises:
            OSError: It cannot.
        """
        self._server = await asyncio.start_unix_server(self._connected, path)
        self._path = path

    def stop(self) -> None:
        """Takes no new connections, and removes its socket. What is not its own at the path stays."""
        if self._server is not None and self._path is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Passes a connection on to the worker that has fewest."""
        for target in sorted(self._targets(), key=lambda path: self._open.get(path, 0)):
            # At once, so that connections that come together are not all given to the same worker.
            self._open[target] = self._open.get(target, 0) + 1
            try:
                if await _pass_on(reader, writer, target):
                    return
            finally:
                self._open[target] -= 1
        writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Path) -> bool:
    """Passes a connection on until it is closed. Returns False if the worker does not take it."""
    try:
        inner_reader, inner_writer = await asyncio.open_unix_connection(target)
        # A server speaks first. One that has just died says nothing, though its socket may have let us in.
        greeting = await inner_reader.read(_BYTES)
    except OSError:
        return False
    if not greeting:
        inner_writer.close()
        return False
    await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer, greeting))
    return True


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes = b"") -> None:
    """Passes on what has come and what comes, until one of the two is closed."""
    try:
        # What is written to a stream that is closed is no OSError with every event loop.
        while (data := data or await reader.read(_BYTES)) and not writer.is_closing():
            writer.write(data)
            await writer.drain()
            data = b""
    except OSError:
        pass
    finally:
        writer.close()
