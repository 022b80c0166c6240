"""The standard health service: nobody who watches it waits for another, and all are sent off when the server drains."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from pgkeras.errors import MissingExtraError

try:
    from grpc_health.v1 import health_pb2
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

_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class _Watch:
    """A call of somebody who watches; made by the task that answers it."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.task = asyncio.current_task()


class Health:
    """The standard servicer, except that its endless Watch calls can be ended: draining would wait for them.

    Nor is a lock held while a watcher is written to, as by the servicer of grpcio's package: one that takes no bytes
    would hold up every change of the status.
    """

    def __init__(self) -> None:
        self._statuses: dict[str, Any] = {}
        self._watches: set[_Watch] = set()
        self._is_draining = False
        self._ended = False

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The status of one service."""
        status = self._statuses.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return health_pb2.HealthCheckResponse(status=status)

    async def List(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The status of every service."""
        response: Any = _ListResponse()
        for name, status in self._statuses.items():
            response.statuses[name].status = status
        return response

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802
        """Streams every change of a service's status; of those that come while one is being sent, the last."""
        if self._ended:
            return
        watch, told = _Watch(), None
        self._watches.add(watch)
        try:
            while True:
                watch.changed.clear()
                status = self._statuses.get(request.service, _UNKNOWN)
                if status != told:
                    await context.write(health_pb2.HealthCheckResponse(status=status))
                    told = status
                await watch.changed.wait()
        except asyncio.CancelledError:
            if not self._ended:  # it is the caller who left
                raise
        finally:
            self._watches.discard(watch)

    def set(self, service: str, status: Any) -> None:
        """Sets the status of a service; once the end has been told, nothing any more."""
        if not self._is_draining:
            self._change(service, status)

    async def tell_end(self) -> None:
        """Tells NOT_SERVING to everybody who watches, for which it waits a moment, and to whoever asks from now on."""
        self._is_draining = True
        for service in self._statuses:
            self._change(service, _NOT_SERVING)
        if self._watches:
            await asyncio.sleep(_LAST_WORD_SECONDS)

    def end(self) -> None:
        """Ends the calls of everybody who watches."""
        self._ended = True
        for watch in self._watches:
            assert watch.task is not None
            watch.task.cancel()

    def _change(self, service: str, status: Any) -> None:
        self._statuses[service] = status
        for watch in self._watches:
            watch.changed.set()
