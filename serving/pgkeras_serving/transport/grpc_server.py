"""GrpcServer: the only module that knows grpcio's server."""

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
    """Listens from the moment that it is made.

    Args:
        config: Where it listens, and its limits.
        register: Adds the services to a server.
        interceptors: Stand before them.

    Attributes:
        port: The port that it listens on; 0 for a Unix-domain socket.

    Raises:
        ConfigError: The address cannot be listened on, or a certificate is of no use.
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
                # Or a second server would bind the same port without a word. Workers do, and their supervisor has
                # made sure that nobody else does.
                ("grpc.so_reuseport", int(config.workers_wanted > 1)),
                *transport_options(config),
            ],
        )
        self._pollers = set(threading.enumerate()) - before  # one; none if the process has used grpc.aio before
        self._deferring: list[asyncio.Task[None]] = []
        register(self._server)
        self.port = bind(self._server, config)

    async def start(self) -> None:
        """Takes calls."""
        await self._server.start()
        self._deferring = [asyncio.create_task(defer(thread)) for thread in self._pollers]

    async def stop(self, grace_seconds: float) -> None:
        """Takes no new calls, and ends those that are not done after the grace period."""
        await self._server.stop(grace_seconds)
        for task in self._deferring:
            task.cancel()
