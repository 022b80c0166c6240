"""The standard health service, whose endless Watch calls end when the server drains."""

from __future__ import annotations

import asyncio
from typing import Any

from pgkeras.errors import MissingExtraError

try:
    from grpc_health.v1 import health_pb2
    from grpc_health.v1.health import aio as health
except ImportError as error:
    raise MissingExtraError(str(error.name), "serve", "serve policies") from error

__all__ = ["Health"]

# How long Watch calls have to send NOT_SERVING before they are ended.
_LAST_WORD_SECONDS = 0.05


class Health(health.HealthServicer):
    """The standard servicer, except that its endless Watch calls can be ended: draining would wait for them."""

    def __init__(self) -> None:
        super().__init__()
        self._watches: set[asyncio.Future[None]] = set()
        self._ended = False

    async def List(self, request: Any, context: Any) -> health_pb2.HealthListResponse:  # noqa: N802
        """The status of every service."""
        checks = {name: health_pb2.HealthCheckResponse(status=status) for name, status in self._server_status.items()}
        return health_pb2.HealthListResponse(statuses=checks)

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802
        """Streams every change of a service's status."""
        watch = asyncio.ensure_future(super().Watch(request, context))
        self._watches.add(watch)
        try:
            await watch
        except asyncio.CancelledError:
            if not self._ended:  # it is the caller who left
                raise
        finally:
            self._watches.discard(watch)

    async def end(self) -> None:
        """Tells NOT_SERVING to everybody who watches, and ends their calls."""
        await self.enter_graceful_shutdown()
        self._ended = True
        if self._watches:
            await asyncio.wait(self._watches, timeout=_LAST_WORD_SECONDS)
        for watch in self._watches:
            watch.cancel()
