"""The front: grpcio's server, and all that is known of it."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Sequence

import grpc

from pgkeras.errors import ConfigError
from pgkeras_serving.settings.config import ServerConfig
from pgkeras_serving.transport.limits import transport_options
from pgkeras_serving.transport.listener import bind

__all__ = ["Front"]

logger = logging.getLogger(__name__)

# How often is looked whether the server is up.
_LOOK_SECONDS = 0.1


class Front:
    """Listens from the moment that it is made, and opens again when grpcio's server has crashed.

    That of grpcio 1.85 crashes at a call whose path is not UTF-8. The crashed server ends by itself, when the
    connections do that are still its own.

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
        self._config = config
        self._register = register
        self._interceptors = interceptors
        self._ending: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._server = self._make()
        self.port = bind(self._server, config)

    async def start(self) -> None:
        """Takes calls."""
        await self._server.start()
        self._watching = asyncio.create_task(self._watch())

    async def stop(self, grace_seconds: float) -> None:
        """Takes no new calls, and ends those that are not done after the grace period."""
        if self._watching is not None:
            self._watching.cancel()
        await self._server.stop(grace_seconds)

    def _make(self) -> grpc.aio.Server:
        server = grpc.aio.server(
            interceptors=self._interceptors,
            options=[
                ("grpc.so_reuseport", 0),  # or a second server would bind the same port without a word
                *transport_options(self._config),
            ],
        )
        self._register(server)
        return server

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            # Waiting for its termination would wait for its connections, and whoever cancels that cancels its end.
            if self._server._server.is_running():  # type: ignore[attr-defined]
                continue
            logger.error("gRPC's server has crashed and is started again; its connections end")
            ending = asyncio.create_task(self._server.stop(0))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            self._server = self._make()
            while not self._bind_again():
                await asyncio.sleep(_LOOK_SECONDS)
            await self._server.start()

    def _bind_again(self) -> bool:
        try:
            bind(self._server, dataclasses.replace(self._config, port=self.port))
        except ConfigError as error:
            logger.error("%s", error)
            return False
        return True
