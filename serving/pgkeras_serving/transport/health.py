"""The standard health service. Watchers do not delay each other, and their calls end when the server drains."""

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

# A part of the standard protocol that is missing in grpcio-health-checking before version 1.85.
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

# Time for Watch calls to send NOT_SERVING before the server refuses calls.
_LAST_WORD_SECONDS = 0.05

_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class _Watch:
    """A Watch call, created in the task that answers it."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.task = asyncio.current_task()


class Health:
    """The health servicer. Its endless Watch calls can be ended, because draining would wait for them.

    Unlike the servicer of grpcio-health-checking, it holds no lock while it writes to a watcher: a watcher that reads
    nothing would block every change of the status.
    """

    def __init__(self) -> None:
        self._statuses: dict[str, Any] = {}
        self._watches: set[_Watch] = set()
        self._is_draining = False
        self._ended = False

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Returns the status of one service."""
        status = self._statuses.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return health_pb2.HealthCheckResponse(status=status)

    async def List(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Returns the status of every service."""
        response: Any = _ListResponse()
        for name, status in self._statuses.items():
            response.statuses[name].status = status
        return response

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802
        """Streams changes of a service's status. Of several changes during one write, only the last is sent."""
        if self._ended:
            return
        watch, sent = _Watch(), None
        self._watches.add(watch)
        try:
            while True:
                watch.changed.clear()
                status = self._statuses.get(request.service, _UNKNOWN)
                if status != sent:
                    await context.write(health_pb2.HealthCheckResponse(status=status))
                    sent = status
                await watch.changed.wait()
        except asyncio.CancelledError:
            if not self._ended:  # the client has canceled the call
                raise
        finally:
            self._watches.discard(watch)

    def set(self, service: str, status: Any) -> None:
        """Sets the status of a service. Has no effect after :meth:`announce_end`."""
        if not self._is_draining:
            self._change(service, status)

    async def announce_end(self) -> None:
        """Sets every status to NOT_SERVING, and waits a moment while watchers are notified."""
        self._is_draining = True
        for service in self._statuses:
            self._change(service, _NOT_SERVING)
        if self._watches:
            await asyncio.sleep(_LAST_WORD_SECONDS)

    def end(self) -> None:
        """Ends all Watch calls."""
        self._ended = True
        for watch in self._watches:
            assert watch.task is not None
            watch.task.cancel()

    def _change(self, service: str, status: Any) -> None:
        self._statuses[service] = status
        for watch in self._watches:
            watch.changed.set()
