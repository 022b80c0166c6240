"""The standard health service, whose endless Watch calls end when the server drains."""

from __future__ import annotations

import asyncio
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from pgkeras.errors import MissingExtraError

try:
    from grpc_health.v1 import health_pb2
    from grpc_health.v1.health import aio as health
except ImportError as error:
    raise MissingExtraError(str(error.name), "serve", "serve policies") from error

__all__ = ["HEALTH", "Health"]

# What the standard protocol has, and grpcio's package before version 1.85 has not.
_LIST = """
message_type { name: "HealthListRequest" }
message_type {
  name: "HealthListResponse"
  field {
    name: "statuses" number: 1 label: LABEL_REPEATED
    type: TYPE_MESSAGE type_name: ".grpc.health.v1.HealthListResponse.StatusesEntry"
  }
  nested_type {
    name: "StatusesEntry"
    field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
    field {
      name: "value" number: 2 label: LABEL_OPTIONAL
      type: TYPE_MESSAGE type_name: ".grpc.health.v1.HealthCheckResponse"
    }
    options { map_entry: true }
  }
}
"""


def _service() -> Any:
    file = descriptor_pb2.FileDescriptorProto()
    health_pb2.DESCRIPTOR.CopyToProto(file)
    text_format.Merge(_LIST, file)
    prefix = f".{file.package}.HealthList"
    file.service[0].method.add(name="List", input_type=f"{prefix}Request", output_type=f"{prefix}Response")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindServiceByName("grpc.health.v1.Health")


HEALTH = _service()
"""The descriptor of the standard health service."""
_ListResponse = message_factory.GetMessageClass(HEALTH.methods_by_name["List"].output_type)

# How long Watch calls have to send NOT_SERVING before the server refuses calls.
_LAST_WORD_SECONDS = 0.05


class Health(health.HealthServicer):
    """The standard servicer, except that its endless Watch calls can be ended: draining would wait for them."""

    def __init__(self) -> None:
        super().__init__()
        self._watches: set[asyncio.Future[None]] = set()
        self._ended = False

    async def List(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The status of every service."""
        response: Any = _ListResponse()
        for name, status in self._server_status.items():
            response.statuses[name].status = status
        return response

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802
        """Streams every change of a service's status."""
        if self._ended:
            return
        watch = asyncio.ensure_future(super().Watch(request, context))
        self._watches.add(watch)
        try:
            await watch
        except asyncio.CancelledError:
            if not self._ended:  # it is the caller who left
                raise
        finally:
            self._watches.discard(watch)

    async def tell_end(self) -> None:
        """Tells NOT_SERVING to everybody who watches, and to whoever asks from now on."""
        await self.enter_graceful_shutdown()
        if self._watches:
            await asyncio.wait(self._watches, timeout=_LAST_WORD_SECONDS)

    def end(self) -> None:
        """Ends the calls of everybody who watches."""
        self._ended = True
        for watch in self._watches:
            watch.cancel()
