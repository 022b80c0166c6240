"""The servicer: translates between the protocol and the policies.

It depends only on encoded requests and the methods of :class:`Context`, so it could serve another transport that
provides them.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc

from pgkeras.errors import ServerUnavailableError
from pgkeras.v1 import service_pb2
from pgkeras_serving.messages.parsing import parse
from pgkeras_serving.messages.sizes import check_size
from pgkeras_serving.sessions.policies import Policies, Session
from pgkeras_serving.sessions.sessions import Sessions, SessionSlot
from pgkeras_serving.telemetry.logs import AccessLog, Call
from pgkeras_serving.telemetry.metrics import Requests
from pgkeras_serving.transport.status import CODES, Context, abort, code_of

if TYPE_CHECKING:  # needs an extra
    from pgkeras_serving.telemetry.tracing import CallSpan

__all__ = ["PolicyServicer", "answers"]

_Handler = Callable[[Any, bytes, Context], Awaitable[bytes]]

_LARGER = "give the server a larger max_message_bytes"

_OK = grpc.StatusCode.OK.name
_CANCELED = grpc.StatusCode.CANCELLED.name


def answers(method: _Handler) -> _Handler:
    """Decorates a unary method of a servicer: counts and logs its calls, and converts exceptions to status codes."""
    name = method.__name__
    success = name, _OK

    @functools.wraps(method)
    async def handler(self: Any, request: bytes, context: Context) -> bytes:
        requests: Requests = self.requests
        access: AccessLog | None = self.access
        call = access.call(name, context.peer(), request) if access is not None else None
        try:
            if self.draining:
                self.last_refused = time.monotonic()
                raise _stopping()
            response = await method(self, request, context)
        except asyncio.CancelledError:  # the client has disconnected
            requests.count(name, _CANCELED)
            if call is not None:
                call.ended(_CANCELED)
            raise
        except Exception as error:
            if call is not None:
                call.ended(code_of(error), error)
            return await abort(context, requests, name, error)
        if call is not None:
            call.ended(_OK, response=response)
        requests.counts[success] += 1
        return response

    return handler


def _stopping() -> ServerUnavailableError:
    return ServerUnavailableError("the server is stopping; call another one, or this one again in a while")


class PolicyServicer:
    """Implementation of ``pgkeras.v1.PolicyService``.

    Args:
        policies: The policies. Calls fail with UNAVAILABLE until they are loaded.
        sessions: The open sessions.
        requests: Counter of calls.
        access: Access log; None for no log.

    Attributes:
        draining: Whether new calls are refused because the server is about to stop.
        last_refused: Time of the last refused call or session (``time.monotonic``).
    """

    def __init__(
        self,
        policies: Policies,
        sessions: Sessions,
        requests: Requests,
        access: AccessLog | None,
    ) -> None:
        self._policies = policies
        self._sessions = sessions
        self.requests = requests
        self.access = access
        self.draining = False
        self.last_refused = 0.0

    @answers
    async def Act(self, request: bytes, context: Context, span: CallSpan | None = None) -> bytes:  # noqa: N802
        """Answers an observation or a batch. The parts of the call are added to ``span`` if there is one."""
        arrival = time.perf_counter_ns()
        policy, query = self._policies.decode(request)
        computed = None
        if span is not None:
            computed = span.decoded(arrival, time.perf_counter_ns())
            span.about(policy.version.name, policy.version.version, len(query.inputs["noise"]))
        answer = await policy.batcher.submit(query.inputs, query.needs, context.peer, computed)
        encoding = time.perf_counter_ns()
        response = policy.codec.encode(query, answer)
        check_size(response, policy.limits.max_send_message_bytes)
        end = time.perf_counter_ns()
        if span is not None:
            span.part("encode", encoding, end)
        policy.meter.answered(answer, query.greedy, arrival, encoding, end)
        return response

    async def Play(self, _: Any, context: Context) -> None:  # noqa: N802
        """Serves a simulator's session."""
        call = self.access.call("Play", context.peer()) if self.access is not None else None
        code, failure = _OK, None
        if self.draining:  # the session will get no slot
            self.last_refused = time.monotonic()
        try:
            with self._sessions.slot() as slot:
                try:
                    slot.receives()
                    first = await context.read()
                    if first is not grpc.aio.EOF:
                        await self._converse(first, slot, context, call)
                except asyncio.CancelledError:
                    if slot.reason is None:  # the client has disconnected
                        raise
                    raise slot.reason from None
        except asyncio.CancelledError:
            code = _CANCELED
            self.requests.count("Play", code)
            raise
        except Exception as error:
            code, failure = code_of(error), error
            await abort(context, self.requests, "Play", error)
        finally:
            if call is not None:
                call.ended(code, failure)
        self.requests.count("Play", _OK)

    @answers
    async def GetPolicy(self, request: bytes, _: Context) -> bytes:  # noqa: N802
        """Describes a policy and the server's limits."""
        described = self._policies.describe(parse(service_pb2.GetPolicyRequest, request).policy)
        response = described.SerializeToString()
        check_size(response, described.limits.max_send_message_bytes, "policy", _LARGER)
        return response

    @answers
    async def ListPolicies(self, request: bytes, _: Context) -> bytes:  # noqa: N802
        """Describes every loaded version."""
        parse(service_pb2.ListPoliciesRequest, request)
        policies = self._policies.policies()
        descriptions = [self._policies.description(policy) for policy in policies]
        response = service_pb2.ListPoliciesResponse(policies=descriptions).SerializeToString()
        if policies:
            most = policies[0].limits.max_send_message_bytes  # a setting of the server, the same for all
            check_size(response, most, "policies", f"describe one at a time, or {_LARGER}")
        return response

    async def _converse(self, message: Any, slot: SessionSlot, context: Context, call: Call | None) -> None:
        """Opens a session and answers its messages."""
        if call is not None:
            call.request = message
        session = self._policies.open_session(parse(service_pb2.PlayRequest, message), context.write)
        if call is not None:
            call.version = session.version
        with session.counted():
            await self._answer_all(session, message, slot, context)

    async def _answer_all(self, session: Session, message: Any, slot: SessionSlot, context: Context) -> None:
        while message is not grpc.aio.EOF:
            slot.works()
            if self.access is not None:
                self.access.message(message, *session.version)
            response, error = await session.answer(message)
            if error:
                self.requests.count("PlayMessage", CODES[error].name)
            slot.sends()
            await context.write(response)
            slot.receives()
            message = await context.read()
