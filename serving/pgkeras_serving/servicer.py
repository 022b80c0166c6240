"""The servicer: translates between the protocol and the policies. It decides nothing.

Of the transport it uses nothing but ``context.abort``, so that any front which offers that can stand before it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import grpc

from pgkeras.errors import PolicyServiceError, ServerFailedError, SpecMismatchError
from pgkeras.status import DETAILS_KEY, encode_error
from pgkeras.v1 import service_pb2, service_pb2_grpc
from pgkeras_serving.config import ServerConfig
from pgkeras_serving.store import Store

__all__ = ["PolicyServicer"]

logger = logging.getLogger(__name__)

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class _Context(Protocol):
    async def abort(
        self, code: grpc.StatusCode, details: str, trailing_metadata: tuple[tuple[str, str | bytes], ...]
    ) -> None: ...


_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


def _answers(
    method: Callable[[Any, _Request], Awaitable[_Response]],
) -> Callable[[Any, _Request, _Context], Awaitable[_Response]]:
    """The one place where exceptions become status."""

    @functools.wraps(method)
    async def handler(self: Any, request: _Request, context: _Context) -> _Response:
        try:
            return await method(self, request)
        except PolicyServiceError as error:
            failure = error
        except Exception:
            logger.exception("%s failed", method.__name__)
            failure = ServerFailedError(f"{method.__name__} failed; the server's log has the reason")
        status = encode_error(failure)
        await context.abort(_CODES[status.code], status.message, ((DETAILS_KEY, status.SerializeToString()),))
        raise AssertionError("abort raises")

    return handler


class PolicyServicer(service_pb2_grpc.PolicyServiceServicer):
    """``pgkeras.v1.PolicyService`` over a :class:`Store`.

    Args:
        store: The policies; calls are answered with UNAVAILABLE until it has loaded them.
        config: The limits.
    """

    def __init__(self, store: Store, config: ServerConfig) -> None:
        self._store = store
        self._limits = service_pb2.Limits(
            max_batch_size=config.max_batch_size,
            max_receive_message_bytes=config.max_message_bytes,
            max_send_message_bytes=config.max_message_bytes,
        )

    @_answers
    async def Act(self, request: service_pb2.ActRequest) -> service_pb2.ActResponse:  # noqa: N802
        """Answers one observation, or one batch of them."""
        policy = self._store.resolve(request.policy)
        if request.spec_hash and request.spec_hash != policy.version.spec_hash:
            raise SpecMismatchError(
                f"policy {policy.version.name!r} version {policy.version.version} has spec {policy.version.spec_hash}, "
                f"but the caller expects {request.spec_hash}; describe the policy again and adapt to it"
            )
        query = policy.edge.decode(request)
        answer = policy.batcher.run_now(query.inputs) or await policy.batcher.submit(query.inputs)
        return policy.edge.encode(query, answer)

    @_answers
    async def GetPolicy(self, request: service_pb2.GetPolicyRequest) -> service_pb2.GetPolicyResponse:  # noqa: N802
        """Describes one policy and the server's limits."""
        policy = self._store.resolve(request.policy)
        return service_pb2.GetPolicyResponse(policy=policy.description, limits=self._limits)

    @_answers
    async def ListPolicies(  # noqa: N802
        self,
        request: service_pb2.ListPoliciesRequest,
    ) -> service_pb2.ListPoliciesResponse:
        """Describes every policy and version that is ready."""
        return service_pb2.ListPoliciesResponse(policies=[policy.description for policy in self._store.policies()])
