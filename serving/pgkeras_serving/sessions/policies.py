"""What the servicer asks of policies: those that are served from disk, or one that is in training."""

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
    """One simulator's session."""

    @property
    def version(self) -> tuple[str, int]:
        """The policy's name and its version."""

    def counted(self) -> AbstractContextManager[None]:
        """Counts the session as open."""

    async def answer(self, message: bytes) -> tuple[bytes, int]:
        """Answers one message; see :meth:`pgkeras_serving.sessions.play.Session.answer`."""


class Policies(Protocol):
    """See :class:`pgkeras_serving.policies.store.Store`, whose methods these are but for the last."""

    @property
    def is_ready(self) -> bool:
        """Whether calls are answered."""

    def load(self) -> None:
        """Makes what is served ready; blocks."""

    def refresh(self) -> None:
        """Follows what has changed; blocks."""

    def close(self) -> None:
        """Shuts down what was started."""

    def policies(self) -> list[LoadedPolicy]:
        """Everything that is ready."""

    def labels(self) -> dict[str, dict[str, int]]:
        """Versions by policy's name, then by label."""

    def failures(self) -> list[str]:
        """Why versions are not served."""

    def run(self) -> RunStatus | None:
        """The run that learns from these sessions; None where policies are served."""

    def decode(self, message: bytes) -> tuple[LoadedPolicy, Query]:
        """Finds the policy that a call asks for, and decodes the call."""

    def describe(self, ref: policy_pb2.PolicyRef) -> service_pb2.GetPolicyResponse:
        """Describes a policy, and what its calls are held to."""

    def description(self, policy: LoadedPolicy) -> policy_pb2.Policy:
        """The description of a policy, with what changes while it is served."""

    def open_session(self, request: service_pb2.PlayRequest, write: Write) -> Session:
        """Opens a session.

        Args:
            request: Its first message, which is yet to be answered.
            write: Sends the client a message besides the answers.

        Raises:
            PolicyServiceError: It is refused.
        """


class ServedPolicies(Store):
    """The policies on disk, and sessions with them."""

    def run(self) -> None:
        """None: see :meth:`Policies.run`."""

    def open_session(self, request: service_pb2.PlayRequest, write: Write) -> Session:
        """See :meth:`Policies.open_session`."""
        policy = self.find(request)
        if request.HasField("simulator"):
            check_simulator(request.simulator, policy.spec)
        return play.Session(policy, request.seed if request.HasField("seed") else None)


def check_simulator(simulator: service_pb2.Simulator, spec: PolicySpec) -> None:
    """Checks that a simulator has declared a policy's spaces.

    Raises:
        InvalidRequestError: It has others; the error names the field, and both.
    """
    for name in ("observation_space", "action_space"):
        space, message = getattr(spec, name), getattr(simulator, name)
        expected, size = space_size(encode_space(space)), space_size(message)
        if size != expected:  # before anything is made of it: anybody may declare anything
            raise InvalidRequestError(f"simulator.{name}", f"the policy's, {space}", f"one of {size} numbers")
        try:
            declared = decode_space(message)
        except (ValueError, UnsupportedSpaceError) as error:  # none at all, or of a kind that is not known here
            raise InvalidRequestError(f"simulator.{name}", f"the policy's, {space}", str(error)) from error
        check_same(f"simulator.{name}", "the policy's", space, declared)
