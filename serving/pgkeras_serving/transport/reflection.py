"""Server reflection, versions v1 and v1alpha, for tools such as grpcurl and ghz."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool

from pgkeras.errors import MissingExtraError

try:
    from grpc_reflection.v1alpha import reflection, reflection_pb2
except ImportError as error:
    raise MissingExtraError(str(error.name), "serve", "serve policies") from error

__all__ = ["Reflection"]


class Reflection(reflection.aio.ReflectionServicer):
    """The services grpc.reflection.v1 and v1alpha, which differ only in their name.

    Tools may hold their streams open. The streams can be ended, because draining would wait for them.

    Args:
        names: Full names of the services to list, in addition to these two.

    Attributes:
        services: The descriptors of the two services.
    """

    def __init__(self, names: list[str]) -> None:
        self.services = [_version_1(), reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]]
        super().__init__([*names, *(service.full_name for service in self.services)], _Pool())
        self._over = asyncio.Event()

    async def ServerReflectionInfo(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Answers queries about services and messages."""
        answers = super().ServerReflectionInfo(request_iterator, context)
        over = asyncio.create_task(self._over.wait())
        try:
            while True:
                answer = asyncio.ensure_future(anext(answers))
                answer.add_done_callback(_retrieve_exception)
                await asyncio.wait({answer, over}, return_when=asyncio.FIRST_COMPLETED)
                if not answer.done():
                    return
                yield await answer
        except StopAsyncIteration:
            return
        finally:
            over.cancel()
            answer.cancel()

    def end(self) -> None:
        """Ends all streams."""
        self._over.set()


def _retrieve_exception(answer: asyncio.Future[Any]) -> None:
    """Retrieves a future's exception, which asyncio would otherwise log if the client has left."""
    if not answer.cancelled():
        answer.exception()


def _version_1() -> Any:
    """Builds the service grpc.reflection.v1 from v1alpha's messages, which have the same wire format."""
    alpha = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(alpha)
    file = descriptor_pb2.FileDescriptorProto(
        name="grpc_reflection/v1/reflection.proto",
        package="grpc.reflection.v1",
        syntax="proto3",
        dependency=[alpha.name],
        service=alpha.service,
    )
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindServiceByName(f"{file.package}.ServerReflection")


class _Pool:
    """The default descriptor pool, extended by a lookup of methods by name, which tools need."""

    def __getattr__(self, name: str) -> Any:
        return getattr(descriptor_pool.Default(), name)

    def FindFileContainingSymbol(self, symbol: str) -> Any:  # noqa: N802
        """Finds the file of a message, an enum, a field, a service or a method.

        Raises:
            KeyError: There is no such symbol.
        """
        try:
            return descriptor_pool.Default().FindFileContainingSymbol(symbol)
        except KeyError:
            return descriptor_pool.Default().FindMethodByName(symbol).containing_service.file
