"""The servicer: translates between the protocol and the policies. It decides nothing.

Of the transport it uses nothing but an iterator of requests and ``context.abort`` and ``context.write``, so that any
front which offers these can stand before it.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc

from pgkeras.errors import SpecMismatchError
from pgkeras.v1 import policy_pb2, service_pb2, service_pb2_grpc
from pgkeras_serving.aborting import CODES, Context, abort, code_of
from pgkeras_serving.catalog import LoadedPolicy
from pgkeras_serving.episodes import EpisodeLog
from pgkeras_serving.logs import AccessLog
from pgkeras_serving.methods import whole
from pgkeras_serving.metrics import Requests
from pgkeras_serving.play import Session
from pgkeras_serving.sessions import Sessions
from pgkeras_serving.store import Store

__all__ = ["PolicyServicer"]

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

_OK = grpc.StatusCode.OK.name
_LEFT = grpc.StatusCode.CANCELLED.name


def _answers(
    method: Callable[[Any, _Request, Context], Awaitable[_Response]],
) -> Callable[[Any, _Request, Context], Awaitable[_Response]]:
    """A call of one request and one answer, whose exceptions become status."""
    success = method.__name__, _OK

    @functools.wraps(method)
    async def handler(self: Any, request: _Request, context: Context) -> _Response:
        requests: Requests = self.requests
        access: AccessLog | None = self.access
        arrival = time.perf_counter_ns() if access is not None else 0
        try:
            response = await method(self, whole(request), context)
        except asyncio.CancelledError:  # the client has left
            requests.count(method.__name__, _LEFT)
            if access is not None:
                access.ended(method.__name__, _LEFT, context.peer(), request, None, arrival)
            raise
        except Exception as error:
            if access is not None:
                access.ended(method.__name__, code_of(error), context.peer(), request, None, arrival)
            return await abort(context, requests, method.__name__, error)
        if access is not None:
            access.ended(method.__name__, _OK, context.peer(), request, response, arrival)
        requests.counts[success] += 1
        return response

    return handler


class PolicyServicer(service_pb2_grpc.PolicyServiceServicer):
    """``pgkeras.v1.PolicyService`` over a :class:`Store`.

    Args:
        store: The policies; calls are answered with UNAVAILABLE until it has loaded them.
        sessions: The sessions that are open.
        episodes: Is told the episodes that are played in sessions.
        requests: Counts the calls.
        access: Logs them; None: nothing does.
    """

    def __init__(
        self,
        store: Store,
        sessions: Sessions,
        episodes: EpisodeLog,
        requests: Requests,
        access: AccessLog | None,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._episodes = episodes
        self.requests = requests
        self.access = access

    @_answers
    async def Act(  # noqa: N802
        self, request: service_pb2.ActRequest, context: Context
    ) -> service_pb2.ActResponse:
        """Answers one observation, or one batch of them."""
        arrival = time.perf_counter_ns()
        policy = self._find(request)
        query = policy.edge.decode(request)
        answer = policy.batcher.run_now(query.inputs) or await policy.batcher.submit(query.inputs, context.peer())
        encoding = time.perf_counter_ns()
        response = policy.edge.encode(query, answer)
        policy.meter.answered(answer, query.greedy, arrival, encoding, time.perf_counter_ns())
        return response

    async def Play(  # noqa: N802
        self, requests: AsyncIterator[service_pb2.PlayRequest], context: Context
    ) -> None:
        """Holds one simulator's session."""
        arrival, first, code = time.perf_counter_ns(), None, _OK
        try:
            with self._sessions.seat() as seat:
                session = None
                while (request := await seat.receive(requests)) is not None:
                    session = session or self._open(whole(request), context.peer())
                    first = first or request
                    if self.access is not None:
                        self.access.message(whole(request), *session.version)
                    response = await session.answer(whole(request))
                    if response.HasField("error"):
                        self.requests.count("PlayMessage", CODES[response.error.code].name)
                    await seat.send(context.write(response))
        except asyncio.CancelledError:
            code = _LEFT
            self.requests.count("Play", code)
            raise
        except Exception as error:
            code = code_of(error)
            await abort(context, self.requests, "Play", error)
        finally:
            if self.access is not None:
                self.access.ended("Play", code, context.peer(), first, None, arrival)
        self.requests.count("Play", _OK)

    @_answers
    async def GetPolicy(  # noqa: N802
        self, request: service_pb2.GetPolicyRequest, _: Context
    ) -> service_pb2.GetPolicyResponse:
        """Describes one policy and the server's limits."""
        policy = self._store.resolve(request.policy)
        return service_pb2.GetPolicyResponse(policy=self._describe(policy), limits=policy.limits)

    @_answers
    async def ListPolicies(  # noqa: N802
        self, request: service_pb2.ListPoliciesRequest, _: Context
    ) -> service_pb2.ListPoliciesResponse:
        """Describes every policy and version that is ready."""
        return service_pb2.ListPoliciesResponse(policies=[self._describe(policy) for policy in self._store.policies()])

    def _describe(self, policy: LoadedPolicy) -> policy_pb2.Policy:
        """The description, with what changes while the version is served."""
        name, version = policy.version.name, policy.version.version
        description = policy_pb2.Policy()
        description.CopyFrom(policy.description)
        labels = self._store.labels().get(name, {})
        description.labels.extend(sorted(label for label, labelled in labels.items() if labelled == version))
        episodes = self._episodes.summary(name, version)
        description.episodes.count = episodes.count
        if episodes.count:
            description.episodes.mean_return = episodes.mean_return
            description.episodes.mean_length = episodes.mean_length
        return description

    def _find(self, request: service_pb2.ActRequest | service_pb2.PlayRequest) -> LoadedPolicy:
        policy = self._store.resolve(request.policy)
        if request.spec_hash and request.spec_hash != policy.version.spec_hash:
            raise SpecMismatchError(
                f"policy {policy.version.name!r} version {policy.version.version} has spec {policy.version.spec_hash}, "
                f"but the caller expects {request.spec_hash}; describe the policy again and adapt to it"
            )
        return policy

    def _open(self, request: service_pb2.PlayRequest, caller: str) -> Session:
        policy = self._find(request)
        record = self._episodes.recorder(policy.version.name, policy.version.version)
        return Session(policy, request.seed if request.HasField("seed") else None, record, caller)
