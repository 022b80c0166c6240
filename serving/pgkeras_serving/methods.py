"""A servicer's methods for grpcio's front, with requests that may be no protocol buffers at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf import message, message_factory

from pgkeras.errors import InvalidRequestError

__all__ = ["Request", "generic_handler", "whole"]

Request = Any
"""A request message, or the DecodeError of bytes that are none: grpcio itself would end the call with UNKNOWN and a
traceback in the log for each, which anybody could fill a disk with."""


def generic_handler(service: Any, servicer: Any) -> grpc.GenericRpcHandler:
    """What grpcio calls a servicer's methods by.

    Args:
        service: The service's descriptor.
        servicer: Has a method for each of its methods, which passes what it gets to :func:`whole`.
    """
    kinds = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    handlers = {
        method.name: kinds[method.client_streaming, method.server_streaming](
            getattr(servicer, method.name),
            request_deserializer=_reader(message_factory.GetMessageClass(method.input_type)),
            response_serializer=message_factory.GetMessageClass(method.output_type).SerializeToString,
        )
        for method in service.methods
    }
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def whole(request: Request) -> Any:
    """Gives back a request that is one.

    Raises:
        InvalidRequestError: It is not.
    """
    if isinstance(request, message.DecodeError):
        raise InvalidRequestError("message", "a protocol buffer of this method's request", f"other bytes: {request}")
    return request


def _reader(kind: Any) -> Callable[[bytes], Request]:
    parse = kind.FromString

    def read(data: bytes) -> Request:
        try:
            return parse(data)
        except message.DecodeError as error:
            return error

    return read
