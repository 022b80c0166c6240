"""The servicer with tracing. Without tracing, the server uses the plain servicer."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from pgkeras.errors import PolicyServiceError
from pgkeras.protocol.status import encode_error
from pgkeras_serving.sessions.policies import Session
from pgkeras_serving.sessions.sessions import SessionSlot
from pgkeras_serving.telemetry.tracing import Tracing
from pgkeras_serving.transport.servicer import PolicyServicer, answers
from pgkeras_serving.transport.status import Context

__all__ = ["TracedServicer"]

_INTERNAL = grpc.StatusCode.INTERNAL.value[0]
_CANCELED = grpc.StatusCode.CANCELLED.value[0]


def _traced(method: Callable[..., Awaitable[bytes]]) -> Callable[..., Awaitable[bytes]]:
    """Decorates a unary method: creates a span for each call and passes it to the method."""

    @functools.wraps(method)
    async def handler(self: TracedServicer, request: bytes, context: Context) -> bytes:
        span = self.tracing.call(method.__name__, context.invocation_metadata() or ())
        code = _CANCELED
        try:
            response = await method(self, request, context, span)
            code = 0
            return response
        except PolicyServiceError as error:
            code = encode_error(error).code
            raise
        except Exception:
            code = _INTERNAL
            raise
        finally:
            span.end(code)

    return handler


class TracedServicer(PolicyServicer):
    """A :class:`PolicyServicer` that traces calls and the messages of sessions.

    Args:
        tracing: Creates the spans.
        arguments: The arguments of :class:`PolicyServicer`.
    """

    def __init__(self, tracing: Tracing, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.tracing = tracing

    Act = answers(_traced(inspect.unwrap(PolicyServicer.Act)))

    async def _answer_all(self, session: Session, message: Any, slot: SessionSlot, context: Context) -> None:
        await super()._answer_all(_TracedSession(session, self.tracing, context), message, slot, context)


class _TracedSession:
    """A session with a span for each message."""

    def __init__(self, session: Session, tracing: Tracing, context: Context) -> None:
        self._session, self._tracing = session, tracing
        self._metadata = context.invocation_metadata() or ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    async def answer(self, message: bytes) -> tuple[bytes, int]:
        """See :meth:`Session.answer`."""
        span, code = self._tracing.call("Play", self._metadata), _CANCELED
        try:
            response, code = await self._session.answer(message)
        except PolicyServiceError as error:
            code = encode_error(error).code
            raise
        finally:
            span.end(code)
        return response, code
