"""Server reflection, in both of its versions, for tools such as grpcurl and ghz."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool

from pgkeras.errors import MissingExtraError

try:
    from grpc_reflection.v1alpha import reflection, reflection_pb2
except ImportError as error:
    raise MissingExtraError(str(error.name), "serve", "serve policies") from error

__all__ = ["reflection_services"]


def reflection_services(names: list[str]) -> list[tuple[Any, Any]]:
    """The services grpc.reflection.v1 and v1alpha, which differ in their name alone.

    Args:
        names: The full names of the services that are told of, besides these two.

    Returns:
        Pairs of a service's descriptor and its servicer.
    """
    alpha = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
    services = [_version_1(), alpha]
    servicer = reflection.aio.ReflectionServicer([*names, *(service.full_name for service in services)], _Pool())
    return [(service, servicer) for service in services]


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
