"""Converts exceptions to gRPC status codes."""

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
"""gRPC status codes by number."""


class Context(Protocol):
    """The methods of a call's context that the servicer uses."""

    async def abort(
        self, code: grpc.StatusCode, details: str, trailing_metadata: tuple[tuple[str, str | bytes], ...]
    ) -> None:
        """Ends the call; does not return."""
        ...

    def peer(self) -> str:
        """Returns the name of the connection."""
        ...

    def invocation_metadata(self) -> Any:
        """Returns the call's metadata as pairs of key and value, or None."""
        ...

    async def read(self) -> Any:
        """Returns the client's next message, or grpc.aio.EOF if the client has closed its side."""
        ...

    async def write(self, message: bytes) -> None:
        """Sends a message as soon as flow control allows it."""
        ...


def code_of(error: Exception) -> str:
    """Returns the name of the status code of an exception."""
    return CODES[encode_error(error).code].name if isinstance(error, PolicyServiceError) else "INTERNAL"


async def abort(context: Context, requests: Requests, method: str, error: Exception) -> NoReturn:
    """Ends a call with the status of an exception.

    Args:
        context: The call's context.
        requests: Counter of calls.
        method: The method's name.
        error: The exception. If it is not a PolicyServiceError, only the log gets its details.
    """
    if not isinstance(error, PolicyServiceError):
        logger.error("%s failed", method, exc_info=error, extra={"fields": {"method": method}})
        error = ServerFailedError(f"{method} failed; the server's log has the reason")
    status = encode_error(error)
    requests.count(method, CODES[status.code].name)
    await context.abort(CODES[status.code], status.message, ((DETAILS_KEY, status.SerializeToString()),))
    raise AssertionError("abort raises")
