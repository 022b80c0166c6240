"""Checks the token of every call before its handler runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from pgkeras.errors import UnauthenticatedError
from pgkeras_serving.telemetry.logs import AccessLog
from pgkeras_serving.telemetry.metrics import Requests
from pgkeras_serving.transport.status import abort, code_of
from pgkeras_serving.transport.tokens import Tokens

__all__ = ["TokenInterceptor"]

# Probes of load balancers and orchestrators carry no tokens, and learn no more than whether the server serves.
_OPEN = "/grpc.health.v1.Health/"


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Refuses calls without a token that is known; health checks need none.

    Args:
        tokens: Those that are.
        requests: Counts the calls that are refused.
        access: Logs them; None: nothing does.
    """

    def __init__(self, tokens: Tokens, requests: Requests, access: AccessLog | None) -> None:
        self._tokens = tokens
        self._requests = requests
        self._access = access

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """Returns the call's handler, or a handler that refuses the call."""
        method = handler_call_details.method
        if not method.startswith(_OPEN):
            try:
                self._tokens.authenticate(handler_call_details.invocation_metadata)
            except UnauthenticatedError as error:
                return self._refusal(method.rpartition("/")[2], error)
        return await continuation(handler_call_details)

    def _refusal(self, method: str, error: UnauthenticatedError) -> Any:
        async def refuse(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            if self._access is not None:
                self._access.call(method, context.peer()).ended(code_of(error), error)
            await abort(context, self._requests, method, error)

        return grpc.stream_stream_rpc_method_handler(refuse)  # which serves any kind of call, since it reads nothing
