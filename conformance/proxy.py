"""A proxy that delays responses."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

__all__ = ["delayed"]


@contextlib.contextmanager
def delayed(target: str, seconds: float) -> Iterator[str]:
    """Forwards connections to ``target`` and delays its responses by ``seconds``. Yields the proxy's HOST:PORT."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="delay-proxy", daemon=True)
    thread.start()
    proxy = _DelayProxy(target, seconds)
    try:
        yield asyncio.run_coroutine_threadsafe(proxy.start(), loop).result(10)
    finally:
        asyncio.run_coroutine_threadsafe(proxy.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


class _DelayProxy:
    def __init__(self, target: str, seconds: float) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._seconds = seconds
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            back_reader, back_writer = await asyncio.open_connection(self._host, self._port)
            with contextlib.closing(writer), contextlib.closing(back_writer):
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._forward(reader, back_writer, 0.0))
                    both.create_task(self._forward(back_reader, writer, self._seconds))
        except* (OSError, asyncio.CancelledError):
            pass  # one side has disconnected, and the connection to the other is closed
        finally:
            self._connections.discard(task)

    @staticmethod
    async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        pending: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, data = await pending.get()
                await asyncio.sleep(due - loop.time())
                if not data:
                    raise ConnectionResetError("this side has closed the connection")
                writer.write(data)
                await writer.drain()

        async def collect() -> None:
            while data := await reader.read(65536):
                pending.put_nowait((loop.time() + seconds, data))
            pending.put_nowait((loop.time() + seconds, b""))

        async with asyncio.TaskGroup() as both:  # an error in one task cancels the other
            both.create_task(collect())
            both.create_task(deliver())
