"""Event loop, signals and ready message of a serving process."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any, Protocol

from pgkeras.errors import ConfigError
from pgkeras.files import whole_file
from pgkeras.hosts import host_and_port
from pgkeras.v1 import policy_pb2
from pgkeras_serving.settings.config import ServerConfig

__all__ = ["Serving", "event_loop", "inventory", "stop_signal", "unless_stopped", "until_stopped", "write_port"]

logger = logging.getLogger(__name__)

_MAX_LISTED = 10


def event_loop() -> asyncio.AbstractEventLoop:
    """Creates an event loop, with uvloop if it is installed."""
    try:
        import uvloop
    except ImportError:  # not available on Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def stop_signal() -> asyncio.Event:
    """Returns an event that SIGTERM, SIGINT and SIGHUP set. Must be called in the main thread."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in {signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGTERM)}:
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    return stop


async def unless_stopped(work: Coroutine[Any, Any, None], stop: asyncio.Event) -> None:
    """Runs a coroutine, and cancels it when an event is set."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if working.done():
        working.result()  # raises the exception of the work, if any
        return
    working.cancel()
    await asyncio.wait([working])


def inventory(descriptions: Iterable[policy_pb2.Policy]) -> str:
    """Returns a short list of the served policies."""
    found = list(descriptions)
    listed = [f"{d.name} (version {d.version}, {d.engine})" for d in found[:_MAX_LISTED]]
    more = [f"{len(found) - len(listed)} more"] if len(listed) < len(found) else []
    return ", ".join([*listed, *more]) or "no policy yet"


class Serving(Protocol):
    """A server, or the supervisor of several worker processes."""

    @property
    def target(self) -> str:
        """The address of the gRPC server."""

    @property
    def port(self) -> int:
        """The port; 0 for a Unix-domain socket."""

    @property
    def web(self) -> Any:
        """The HTTP server of the status page, or None."""


async def until_stopped(
    config: ServerConfig, server: Serving, served: Iterable[policy_pb2.Policy], stop: asyncio.Event, how: str = ""
) -> None:
    """Prints that a server is ready, and waits for an event.

    Args:
        config: The server's settings.
        server: The server.
        served: The served policies.
        stop: The event to wait for.
        how: Text after the address in the ready message.

    Raises:
        ConfigError: The port file cannot be written.
    """
    if config.port_file is not None:
        write_port(config.port_file, server.port)
    print(f"pgkeras: serving {inventory(served)} on {server.target}{how}", flush=True)
    if server.web is not None:
        scheme = "http" if config.tls_cert is None else "https"
        logger.info("the status page is at %s://%s", scheme, host_and_port(config.http_host, server.web.port))
    await stop.wait()
    logger.info("draining: no new calls are taken")


def write_port(file: Path, port: int) -> None:
    """Writes a port number to a file.

    Raises:
        ConfigError: The file cannot be written.
    """
    try:
        with whole_file(file, mode=0o600) as scratch:
            scratch.write(f"{port}\n".encode())
    except OSError as error:
        raise ConfigError(f"port_file: cannot write {file}: {error.strerror}") from error
