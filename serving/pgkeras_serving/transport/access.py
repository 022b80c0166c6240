"""Checks the token of every call before its handler runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from pgkeras.errors import UnauthenticatedError
from pgkeras_serving.transport.methods import Refusals
from pgkeras_serving.transport.tokens import Tokens

__all__ = ["TokenInterceptor"]

# Probes of load balancers and orchestrators have no tokens. They learn only whether the server is serving.
_OPEN = "/grpc.health.v1.Health/"


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Refuses calls without a valid token, except health checks.

    Args:
        tokens: The valid tokens.
        refusals: Builds handlers for refused calls.
    """

    def __init__(self, tokens: Tokens, refusals: Refusals) -> None:
        self._tokens = tokens
        self._refusals = refusals

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """Returns the call's handler, or a handler that refuses the call; None if there is no such method."""
        method = handler_call_details.method
        handler = await continuation(handler_call_details)
        # Refused calls are counted by method, so unknown methods must not get here: a client could invent any number.
        if handler is not None and not method.startswith(_OPEN):
            try:
                self._tokens.authenticate(handler_call_details.invocation_metadata)
            except UnauthenticatedError as error:
                return self._refusals.handler(method, error)
        return handler
