"""The servicer: translates between the protocol and the policies. It decides nothing.

Of the transport it uses nothing but requests as the bytes that came and a :class:`Context`'s methods, so that any front
which offers these can stand before it.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from pgkeras.errors import SpecMismatchError
from pgkeras.v1 import policy_pb2, service_pb2
from pgkeras_serving.messages.parsing import parse
from pgkeras_serving.messages.responses import Query
from pgkeras_serving.messages.templates import varint
from pgkeras_serving.policies.catalog import LoadedPolicy
from pgkeras_serving.policies.store import Store
from pgkeras_serving.sessions.play import Session
from pgkeras_serving.sessions.sessions import Seat, Sessions
from pgkeras_serving.telemetry.logs import AccessLog, Call
from pgkeras_serving.telemetry.metrics import Requests
from pgkeras_serving.transport.eager import EagerTask
from pgkeras_serving.transport.status import CODES, Context, abort, code_of

__all__ = ["PolicyServicer"]

_Handler = Callable[[Any, bytes, Context], Awaitable[bytes]]

_OK = grpc.StatusCode.OK.name
_LEFT = grpc.StatusCode.CANCELLED.name
_POLICY = varint(service_pb2.ActRequest.DESCRIPTOR.fields_by_name["policy"].number << 3 | 2)  # before its length,
_LONG = b"\x80"  # and the least first byte of a length that takes more than one


def _answers(method: _Handler) -> _Handler:
    """Wraps a unary method: counts and logs its calls, and converts exceptions to status."""
    name = method.__name__
    success = name, _OK

    @functools.wraps(method)
    async def handler(self: Any, request: bytes, context: Context) -> bytes:
        requests: Requests = self.requests
        access: AccessLog | None = self.access
        call = access.call(name, context.peer(), request) if access is not None else None
        try:
            response = await method(self, request, context)
        except asyncio.CancelledError:  # the client has left
            requests.count(name, _LEFT)
            if call is not None:
                call.ended(_LEFT)
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


class PolicyServicer:
    """``pgkeras.v1.PolicyService`` over a :class:`Store`.

    Args:
        store: The policies; calls are answered with UNAVAILABLE until it has loaded them.
        sessions: The sessions that are open.
        requests: Counts the calls.
        access: Logs them; None: nothing does.
    """

    def __init__(
        self,
        store: Store,
        sessions: Sessions,
        requests: Requests,
        access: AccessLog | None,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self.requests = requests
        self.access = access

    @_answers
    async def Act(self, request: bytes, context: Context) -> bytes:  # noqa: N802
        """Answers one observation, or one batch of them."""
        arrival = time.perf_counter_ns()
        policy, query = self._recall(request) or self._decode(request)
        batcher, inputs, needs = policy.batcher, query.inputs, query.needs
        answer = batcher.run_now(inputs, needs) or await batcher.submit(inputs, needs, context.peer)
        encoding = time.perf_counter_ns()
        response = policy.edge.encode(query, answer)
        policy.meter.answered(answer, query.greedy, arrival, encoding, time.perf_counter_ns())
        return response

    async def Play(self, _: Any, context: Context) -> None:  # noqa: N802
        """Holds one simulator's session."""
        call = self.access.call("Play", context.peer()) if self.access is not None else None
        code, failure = _OK, None
        try:
            with self._sessions.seat() as seat:
                try:
                    seat.receives()
                    first = await context.read()
                    if first is not grpc.aio.EOF:
                        await self._converse(first, seat, context, call)
                except asyncio.CancelledError:
                    if seat.reason is None:  # it is the client who left
                        raise
                    raise seat.reason from None
        except asyncio.CancelledError:
            code = _LEFT
            self.requests.count("Play", code)
            raise
        except Exception as error:
            code, failure = code_of(error), error
            await abort(context, self.requests, "Play", error)
        finally:
            if call is not None:
                call.ended(code, failure)
        self.requests.count("Play", _OK)

    @_answers
    async def GetPolicy(self, request: bytes, _: Context) -> bytes:  # noqa: N802
        """Describes one policy and the server's limits."""
        policy = self._store.resolve(parse(service_pb2.GetPolicyRequest, request).policy)
        answer = service_pb2.GetPolicyResponse(policy=self._describe(policy), limits=policy.limits)
        return answer.SerializeToString()

    @_answers
    async def ListPolicies(self, request: bytes, _: Context) -> bytes:  # noqa: N802
        """Describes every policy and version that is ready."""
        parse(service_pb2.ListPoliciesRequest, request)
        policies = [self._describe(policy) for policy in self._store.policies()]
        return service_pb2.ListPoliciesResponse(policies=policies).SerializeToString()

    async def _converse(self, message: Any, seat: Seat, context: Context, call: Call | None) -> None:
        """Answers a session's messages, from the first on."""
        sending = EagerTask()
        failure: Exception | None = None
        try:
            if call is not None:
                call.request = message
            session = self._open(parse(service_pb2.PlayRequest, message))
            if call is not None:
                call.version = session.version
            while message is not grpc.aio.EOF:
                seat.works()
                if self.access is not None:
                    self.access.message(message, *session.version)
                response, error = await session.answer(message)
                if error:
                    self.requests.count("PlayMessage", CODES[error].name)
                seat.sends()
                await sending
                sending = EagerTask(context.write(response))
                if len(self._sessions) == 1:  # with nothing else to do meanwhile, to wait here is faster
                    await sending
                seat.receives()
                message = await context.read()
        except asyncio.CancelledError:
            if seat.reason is None:  # it is the client who left
                raise
            failure = seat.reason
        except Exception as error:
            failure = error
            seat.sends()
        await sending  # status comes after the last answer
        if failure is not None:
            raise failure

    def _describe(self, policy: LoadedPolicy) -> policy_pb2.Policy:
        """The description, with what changes while the version is served."""
        name, version = policy.version.name, policy.version.version
        description = policy_pb2.Policy()
        description.CopyFrom(policy.description)
        labels = self._store.labels().get(name, {})
        description.labels.extend(sorted(label for label, labelled in labels.items() if labelled == version))
        episodes = policy.episodes.summary()
        description.episodes.count = episodes.count
        if episodes.count:
            description.episodes.mean_return = episodes.mean_return
            description.episodes.mean_length = episodes.mean_length
        return description

    def _recall(self, request: bytes) -> tuple[LoadedPolicy, Query] | None:
        """Looks up the decoding of a request with a known layout, if its policy version is still current."""
        policy = self._store.recall(_leading_reference(request))
        query = policy.edge.recall(request) if policy is not None else None
        return None if policy is None or query is None else (policy, query)

    def _decode(self, request: bytes) -> tuple[LoadedPolicy, Query]:
        parsed = parse(service_pb2.ActRequest, request)
        policy = self._find(parsed)
        query = policy.edge.decode(parsed)
        if _leading_reference(request) == parsed.policy.SerializeToString():
            policy.edge.remember(request, parsed, query)
        return policy, query

    def _find(self, request: service_pb2.ActRequest | service_pb2.PlayRequest) -> LoadedPolicy:
        policy = self._store.resolve(request.policy)
        if request.spec_hash and request.spec_hash != policy.version.spec_hash:
            raise SpecMismatchError(
                f"policy {policy.version.name!r} version {policy.version.version} has spec {policy.version.spec_hash}, "
                f"but the caller expects {request.spec_hash}; describe the policy again and adapt to it"
            )
        return policy

    def _open(self, request: service_pb2.PlayRequest) -> Session:
        policy = self._find(request)
        return Session(policy, request.seed if request.HasField("seed") else None)


def _leading_reference(request: bytes) -> bytes:
    """The serialized ``policy`` field if the request starts with it and it is shorter than 128 bytes, else empty."""
    if request.startswith(_POLICY) and request[1:2] < _LONG:
        return request[2 : 2 + int.from_bytes(request[1:2])]
    return b""
