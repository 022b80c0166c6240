"""Interface between the gRPC servicer and policies: served from disk, or a policy in training."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Protocol

from pgkeras.errors import InvalidRequestError, UnsupportedSpaceError
from pgkeras.protocol.wire import decode_space, encode_space, space_size
from pgkeras.spaces.difference import check_same
from pgkeras.spaces.spec import PolicySpec
from pgkeras.v1 import policy_pb2, service_pb2
from pgkeras_serving.messages.responses import Query
from pgkeras_serving.policies.contents import LoadedPolicy
from pgkeras_serving.policies.store import Store
from pgkeras_serving.sessions import play
from pgkeras_serving.telemetry.run import RunStatus

__all__ = ["Policies", "ServedPolicies", "Session", "Write", "check_simulator"]

Write = Callable[[bytes], Awaitable[None]]
"""Sends a message to a session's client."""


class Session(Protocol):
    """A simulator's session."""

    @property
    def version(self) -> tuple[str, int]:
        """The policy's name and version."""

    def counted(self) -> AbstractContextManager[None]:
        """Counts the session as open within the context."""

    async def answer(self, message: bytes) -> tuple[bytes, int]:
        """Answers one message; see :meth:`pgkeras_serving.sessions.play.Session.answer`."""


class Policies(Protocol):
    """The methods of :class:`pgkeras_serving.policies.store.Store`, and :meth:`run` and :meth:`open_session`."""

    @property
    def is_ready(self) -> bool:
        """Whether calls are answered."""

    def load(self) -> None:
        """Loads the policies; blocks."""

    def refresh(self) -> None:
        """Loads changes; blocks."""

    def close(self) -> None:
        """Releases all resources."""

    def policies(self) -> list[LoadedPolicy]:
        """Returns all loaded versions."""

    def labels(self) -> dict[str, dict[str, int]]:
        """Returns versions by policy name, then by label."""

    def failures(self) -> list[str]:
        """Returns the reasons why versions are not served."""

    def run(self) -> RunStatus | None:
        """Returns the status of the training run that learns from the sessions; None if policies are only served."""

    def decode(self, message: bytes) -> tuple[LoadedPolicy, Query]:
        """Finds the policy of a call and decodes the call."""

    def describe(self, ref: policy_pb2.PolicyRef) -> service_pb2.GetPolicyResponse:
        """Describes a policy, with the limits of its calls."""

    def description(self, policy: LoadedPolicy) -> policy_pb2.Policy:
        """Returns the description of a policy with its current labels and episode statistics."""

    def open_session(self, request: service_pb2.PlayRequest, write: Write) -> Session:
        """Opens a session.

        Args:
            request: Its first message, not yet answered.
            write: Sends the client a message that is not a response.

        Raises:
            PolicyServiceError: The session is refused.
        """


class ServedPolicies(Store):
    """Policies served from disk."""

    def run(self) -> None:
        """Returns None; see :meth:`Policies.run`."""

    def open_session(self, request: service_pb2.PlayRequest, write: Write) -> Session:
        """See :meth:`Policies.open_session`."""
        policy = self.find(request)
        if request.HasField("simulator"):
            check_simulator(request.simulator, policy.spec)
        return play.Session(policy, request.seed if request.HasField("seed") else None)


def check_simulator(simulator: service_pb2.Simulator, spec: PolicySpec) -> None:
    """Checks that a simulator has declared the policy's spaces.

    Raises:
        InvalidRequestError: A space differs; the error names the field and both spaces.
    """
    for name in ("observation_space", "action_space"):
        space, message = getattr(spec, name), getattr(simulator, name)
        expected, size = space_size(encode_space(space)), space_size(message)
        if size != expected:  # before decoding, because an untrusted client may declare a huge space
            raise InvalidRequestError(f"simulator.{name}", f"the policy's, {space}", f"one of {size} numbers")
        try:
            declared = decode_space(message)
        except (ValueError, UnsupportedSpaceError) as error:  # missing, or of an unknown kind
            raise InvalidRequestError(f"simulator.{name}", f"the policy's, {space}", str(error)) from error
        check_same(f"simulator.{name}", "the policy's", space, declared)
