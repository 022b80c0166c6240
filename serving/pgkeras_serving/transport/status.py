"""Converts exceptions to gRPC status; the only place that does."""

from __future__ import annotations

import logging
from typing import Any, NoReturn, Protocol

import grpc

from pgkeras.errors import PolicyServiceError, ServerFailedError
from pgkeras.protocol.status import DETAILS_KEY, encode_error
from pgkeras_serving.telemetry.metrics import Requests

__all__ = ["CODES", "Context", "abort", "code_of"]

logger = logging.getLogger(__name__)

CODES = {code.value[0]: code for code in grpc.StatusCode}
"""gRPC's codes by number."""


class Context(Protocol):
    """The methods of a call's context that the servicer uses."""

    async def abort(
        self, code: grpc.StatusCode, details: str, trailing_metadata: tuple[tuple[str, str | bytes], ...]
    ) -> None:
        """Ends the call; does not return."""
        ...

    def peer(self) -> str:
        """Names the connection."""
        ...

    def invocation_metadata(self) -> Any:
        """The call's metadata, pairs of key and value; None for none."""
        ...

    async def read(self) -> Any:
        """The client's next message; grpc.aio.EOF when it has closed its side."""
        ...

    async def write(self, message: bytes) -> None:
        """Sends a message, when the client has room for it."""
        ...


def code_of(error: Exception) -> str:
    """The name of the status that an exception means."""
    return CODES[encode_error(error).code].name if isinstance(error, PolicyServiceError) else "INTERNAL"


async def abort(context: Context, requests: Requests, method: str, error: Exception) -> NoReturn:
    """Ends a call with the status that an exception means.

    Args:
        context: The call's.
        requests: Counts it.
        method: Its name, for the log.
        error: What went wrong; the client is told of it if it is a PolicyServiceError, else only the log is.
    """
    if not isinstance(error, PolicyServiceError):
        logger.error("%s failed", method, exc_info=error, extra={"fields": {"method": method}})
        error = ServerFailedError(f"{method} failed; the server's log has the reason")
    status = encode_error(error)
    requests.count(method, CODES[status.code].name)
    await context.abort(CODES[status.code], status.message, ((DETAILS_KEY, status.SerializeToString()),))
    raise AssertionError("abort raises")
