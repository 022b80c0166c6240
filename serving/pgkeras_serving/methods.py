"""A servicer's methods for grpcio's front, which hands them every request as the bytes that came."""

from __future__ import annotations

from typing import Any, TypeVar

import grpc
from google.protobuf import message

from pgkeras.errors import InvalidRequestError

__all__ = ["generic_handler", "parse"]

_Message = TypeVar("_Message", bound=message.Message)


def generic_handler(service: Any, servicer: Any) -> grpc.GenericRpcHandler:
    """What grpcio calls a servicer's methods by.

    Args:
        service: The service's descriptor.
        servicer: Has a method for each of its methods, which takes and gives bytes.
    """
    kinds = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    handlers: dict[str, Any] = {
        method.name: kinds[method.client_streaming, method.server_streaming](getattr(servicer, method.name))
        for method in service.methods
    }
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def parse(kind: type[_Message], data: bytes) -> _Message:
    """The message in some bytes.

    Were grpcio to parse it, it would end the call with UNKNOWN and write a traceback into the log for each, which
    anybody could fill a disk with.

    Raises:
        InvalidRequestError: They are none.
    """
    try:
        return kind.FromString(data)
    except message.DecodeError as error:
        raise InvalidRequestError(
            "message", "a protocol buffer of this method's request", f"other bytes: {error}"
        ) from error
