"""GrpcServer: wraps grpcio's server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

import grpc

from pgkeras_serving.settings.config import ServerConfig
from pgkeras_serving.transport.limits import transport_options
from pgkeras_serving.transport.listener import bind
from pgkeras_serving.transport.poller_priority import defer

__all__ = ["GrpcServer"]


class GrpcServer:
    """A gRPC server. Binds its address in the constructor.

    Args:
        config: The server's settings.
        register: Adds the services to a server.
        interceptors: Interceptors of all calls.

    Attributes:
        port: The bound port; 0 for a Unix-domain socket.

    Raises:
        ConfigError: The address cannot be used, or a certificate is invalid.
    """

    def __init__(
        self,
        config: ServerConfig,
        register: Callable[[grpc.aio.Server], None],
        interceptors: Sequence[grpc.aio.ServerInterceptor],
    ) -> None:
        before = set(threading.enumerate())
        self._server = grpc.aio.server(
            interceptors=interceptors,
            options=[
                # Otherwise a second server could silently bind the same port. Workers share a port; their supervisor
                # has checked that no other program uses it.
                ("grpc.so_reuseport", int(config.workers_wanted > 1)),
                *transport_options(config),
            ],
        )
        self._pollers = set(threading.enumerate()) - before  # one; none if the process has used grpc.aio before
        self._deferring: list[asyncio.Task[None]] = []
        register(self._server)
        self.port = bind(self._server, config)

    async def start(self) -> None:
        """Starts accepting calls."""
        await self._server.start()
        self._deferring = [asyncio.create_task(defer(thread)) for thread in self._pollers]

    async def stop(self, grace_seconds: float) -> None:
        """Refuses new calls, and ends calls that are not finished after the grace period."""
        await self._server.stop(grace_seconds)
        for task in self._deferring:
            task.cancel()
