"""Registers a servicer's methods with grpcio, and refuses calls before their method runs."""

from __future__ import annotations

import operator
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf import message_factory

from pgkeras.errors import InvalidRequestError, PolicyServiceError
from pgkeras_serving.telemetry.logs import AccessLog
from pgkeras_serving.telemetry.metrics import Requests
from pgkeras_serving.transport.status import Context, abort, code_of

__all__ = ["Methods", "Refusals"]

# HTTP/2 adds this to the size of each header (RFC 9113, section 6.5.2).
_HEADER_BYTES = 32


class Refusals:
    """Builds handlers that refuse a call.

    Args:
        requests: Counter of calls.
        access: Access log; None for no log.
    """

    def __init__(self, requests: Requests, access: AccessLog | None) -> None:
        self._requests = requests
        self._access = access

    def handler(self, method: str, error: PolicyServiceError) -> grpc.RpcMethodHandler[Any, Any]:
        """Builds a handler that ends a call with an error, without reading it.

        Args:
            method: The path of the method.
            error: The error for the client.
        """

        async def refuse(_: Any, context: Context) -> None:
            await self.refuse(context, method.rpartition("/")[2], error)

        return grpc.stream_stream_rpc_method_handler(refuse)

    async def refuse(self, context: Context, method: str, error: PolicyServiceError) -> None:
        """Ends a call with an error; does not return."""
        if self._access is not None:
            self._access.call(method, context.peer()).ended(code_of(error), error)
        await abort(context, self._requests, method, error)


class Methods(grpc.GenericRpcHandler):
    """The handlers of a service's methods.

    They read the message of a unary call themselves, because grpcio would wait forever for a call that sends none.

    Args:
        service: The service's descriptor.
        servicer: Has a coroutine for each method.
        refusals: Refuses calls without a message and calls with too much metadata.
        max_header_bytes: Maximum metadata of a call, as HTTP/2 counts it. HTTP/2 announces this limit to clients, but
            gRPC's core does not enforce it against clients that ignore it.
        parsed: Whether the servicer takes and returns messages instead of bytes.
    """

    def __init__(
        self, service: Any, servicer: Any, refusals: Refusals, max_header_bytes: int, *, parsed: bool = False
    ) -> None:
        self._refusals = refusals
        self._max_header_bytes = max_header_bytes
        self._handlers = {
            f"/{service.full_name}/{method.name}": self._handler(method, getattr(servicer, method.name), parsed)
            for method in service.methods
        }

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Returns the handler of a call, or None if the service has no such method."""
        handler = self._handlers.get(details.method)
        if handler is None:
            return None
        size = 0
        for key, value in details.invocation_metadata or ():
            size += len(key) + len(value) + _HEADER_BYTES
        if size > self._max_header_bytes:
            expected, got = f"at most {self._max_header_bytes} bytes, as HTTP/2 counts them", str(size)
            return self._refusals.handler(details.method, InvalidRequestError("metadata", expected, got))
        return handler

    def _handler(
        self, method: Any, answer: Callable[[Any, Context], Awaitable[Any]], parsed: bool
    ) -> grpc.RpcMethodHandler[Any, Any]:
        parse = message_factory.GetMessageClass(method.input_type).FromString if parsed else None
        serialize = operator.methodcaller("SerializeToString") if parsed else None
        if method.client_streaming:
            return grpc.stream_stream_rpc_method_handler(answer, parse, serialize)

        async def read_and_answer(_: Any, context: Context) -> Any:
            message = await context.read()
            if message is grpc.aio.EOF:
                await self._refusals.refuse(context, method.name, InvalidRequestError("message", "one", "none"))
            return await answer(message, context)

        kind = (
            grpc.stream_stream_rpc_method_handler if method.server_streaming else grpc.stream_unary_rpc_method_handler
        )
        return kind(read_and_answer, parse, serialize)
