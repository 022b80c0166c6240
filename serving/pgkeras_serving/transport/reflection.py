"""Server reflection, in both of its versions, for tools such as grpcurl and ghz."""

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
    """The services grpc.reflection.v1 and v1alpha, which differ in their name alone.

    Their streams, which tools may hold open, can be ended: draining would wait for them.

    Args:
        names: The full names of the services that are told of, besides these two.
    """

    def __init__(self, names: list[str]) -> None:
        self.services = [_version_1(), reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]]
        """Their descriptors."""
        super().__init__([*names, *(service.full_name for service in self.services)], _Pool())
        self._over = asyncio.Event()

    async def ServerReflectionInfo(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Answers questions about services and messages."""
        answers = super().ServerReflectionInfo(request_iterator, context)
        over = asyncio.create_task(self._over.wait())
        try:
            while True:
                answer = asyncio.ensure_future(anext(answers))
                answer.add_done_callback(_take_notice)
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


def _take_notice(answer: asyncio.Future[Any]) -> None:
    """Of what becomes of an answer that nobody awaits any more, since the client has left; asyncio would log it."""
    if not answer.cancelled():
        answer.exception()


def _version_1() -> Any:
    """The service grpc.reflection.v1, of the other version's messages: they are the same on the wire."""
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
    """The files of the process, among which methods are found too: tools look them up by name."""

    def __getattr__(self, name: str) -> Any:
        return getattr(descriptor_pool.Default(), name)

    def FindFileContainingSymbol(self, symbol: str) -> Any:  # noqa: N802
        """Finds the file of a message, an enum, a field, a service or a method.

        Raises:
            KeyError: There is none.
        """
        try:
            return descriptor_pool.Default().FindFileContainingSymbol(symbol)
        except KeyError:
            return descriptor_pool.Default().FindMethodByName(symbol).containing_service.file
