"""One Play session, message by message, independent of the transport."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.engines import noise
from pgkeras.engines.state import or_zeros, start_over
from pgkeras.errors import InvalidRequestError, PolicyServiceError, ServerFailedError
from pgkeras.protocol.status import encode_error
from pgkeras.spaces.spec import PolicySpec
from pgkeras.v1 import service_pb2
from pgkeras_serving.messages.parsing import parse
from pgkeras_serving.messages.sizes import check_size
from pgkeras_serving.messages.steps import OUTCOME, Step, Transition
from pgkeras_serving.messages.templates import varint
from pgkeras_serving.policies.contents import LoadedPolicy
from pgkeras_serving.sessions.episodes import Episodes

__all__ = ["Session", "refusal", "response", "transition_of"]

logger = logging.getLogger(__name__)

# Encoded keys of PlayResponse's fields "id" and "act", which precede their values.
_ID = varint(service_pb2.PlayResponse.DESCRIPTOR.fields_by_name["id"].number << 3)
_ACT = varint(service_pb2.PlayResponse.DESCRIPTOR.fields_by_name["act"].number << 3 | 2)


class Session:
    """A simulator's session with one version of a policy.

    A message takes effect only if its response contains actions. A message that is answered with an error leaves the
    session's noise and episodes unchanged. The first message that is answered with actions fixes the number of
    environments.

    Args:
        policy: The policy version, which stays the same for the whole session.
        seed: Seed of the generator from which the noise of all responses is drawn, in order. None for a random seed.
    """

    def __init__(self, policy: LoadedPolicy, seed: int | None) -> None:
        self._policy = policy
        self._noise = _Noise(policy.spec, seed)
        self._episodes: Episodes | None = None
        self._state: NDArray[np.float32] | None = None  # of every environment, for a policy with memory

    @property
    def version(self) -> tuple[str, int]:
        """The policy's name and its version."""
        return self._policy.version.name, self._policy.version.version

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Counts the session as open."""
        self._policy.meter.sessions += 1
        try:
            yield
        finally:
            self._policy.meter.sessions -= 1

    async def answer(self, message: bytes) -> tuple[bytes, int]:
        """Answers one message, with actions or with the error that concerns it.

        Args:
            message: The bytes of a ``PlayRequest``.

        Returns:
            The bytes of a ``PlayResponse``, and the code of the error in it; 0 for none.

        Raises:
            InvalidRequestError: The bytes are no message.
        """
        arrival = time.perf_counter_ns()
        rows = len(self._episodes.over) if self._episodes is not None else None
        policy = self._policy
        try:
            step = policy.steps.decode(message, rows)
            transition = self._begin(step)
            answer = await policy.batcher.submit(step.query.inputs, step.query.needs, self._caller)
            return self._finish(step, transition, answer, arrival), 0
        except Exception as error:
            return refusal(message, error)

    def _caller(self) -> Session:
        """Returns the caller's identity for fair queueing: each session counts as a caller of its own."""
        return self

    def _begin(self, step: Step) -> Transition | None:
        """Checks a step against the session's state, and adds noise and memory state to its inputs."""
        inputs, start = step.query.inputs, step.episode_start
        rows = len(inputs["observation"])
        transition = transition_of(step, self._episodes)
        inputs["noise"] = self._noise.peek(rows)
        if size := self._policy.spec.state_size:
            state = or_zeros(self._state, rows, size)
            if self._episodes is not None:
                state = start_over(state, self._episodes.over if start is None else start)
            inputs["state"] = state
        return transition

    def _finish(
        self, step: Step, transition: Transition | None, answer: Mapping[str, NDArray[Any]], arrival: int
    ) -> bytes:
        """Encodes the response. Updates the session's state only if the response may be sent."""
        encoding = time.perf_counter_ns()
        message = response(step.message_id, self._policy.codec.answers.encode(step.query, answer))
        check_size(message, self._policy.limits.max_send_message_bytes)
        self._policy.meter.answered(answer, step.query.greedy, arrival, encoding, time.perf_counter_ns())
        rows = len(step.query.inputs["noise"])
        if self._episodes is None:
            self._episodes = Episodes(rows, self._policy.episodes.record)
        self._episodes.advance(transition, step.episode_start)
        self._noise.use(rows)
        state = answer.get("next_state")
        self._state = None if state is None else state.copy()  # a view would keep the whole batch in memory
        return message


def transition_of(step: Step, episodes: Episodes | None) -> Transition | None:
    """Returns the outcome of a session's previous actions, or None if there were none.

    Args:
        step: The new message.
        episodes: The session's episodes; None for the first message.

    Raises:
        InvalidRequestError: The outcome of the previous actions is missing, or it is given without previous actions.
    """
    start = step.episode_start
    if episodes is None:
        if step.given:
            expected = "nothing in a session's first message, before any action"
            raise InvalidRequestError(step.given[0], expected, "one")
        if start is not None and not start.all():
            raise InvalidRequestError("episode_start", "true everywhere in a session's first message", "false")
        return None
    if step.transition is not None:
        return step.transition
    if step.given or not (episodes.over if start is None else start).all():
        missing = next(name for name in OUTCOME if name not in step.given)
        expected = "what the previous actions led to, unless every environment starts an episode"
        raise InvalidRequestError(missing, expected, "nothing")
    return None


class _Noise:
    """Noise rows of one generator, in order. A row stays the next one until it is used.

    Args:
        spec: The policy's specification.
        seed: Seed of the generator; None for a random one.
    """

    def __init__(self, spec: PolicySpec, seed: int | None) -> None:
        self._spec = spec
        self._generator = noise.seeded(seed)
        self._unused = noise.draw(self._generator, spec, 0)

    def peek(self, rows: int) -> NDArray[np.float32]:
        """Returns the next rows, ``[rows, noise_size]``."""
        missing = rows - len(self._unused)
        if missing > 0:
            drawn = noise.draw(self._generator, self._spec, missing)
            self._unused = np.concatenate([self._unused, drawn]) if len(self._unused) else drawn
        return self._unused[:rows]

    def use(self, rows: int) -> None:
        """Marks the next rows as used."""
        self._unused = self._unused[rows:]


def response(message_id: int, act: bytes) -> bytes:
    """Encodes a ``PlayResponse``, given its encoded ``ActResponse``."""
    return b"".join((_ID, varint(message_id), _ACT, varint(len(act)), act))


def refusal(message: bytes, error: Exception, log: str = "the server's log") -> tuple[bytes, int]:
    """Encodes a ``PlayResponse`` with an error, and returns it with the error's status code.

    Args:
        message: The encoded ``PlayRequest``.
        error: The error. If it is not a PolicyServiceError, it is logged, and the client is referred to the log.
        log: The name of the log in that message.

    Raises:
        InvalidRequestError: The bytes are not a ``PlayRequest``.
    """
    if not isinstance(error, PolicyServiceError):
        logger.error("a message of a session failed", exc_info=error)
        error = ServerFailedError(f"this message failed; {log} has the reason")
    message_id = parse(service_pb2.PlayRequest, message).id
    status = encode_error(error)
    failure = service_pb2.PlayError(code=status.code, message=status.message, details=status.details)
    return service_pb2.PlayResponse(id=message_id, error=failure).SerializeToString(), status.code
