"""PlaySession: one simulator's session with a policy server."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import grpc
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pgkeras.client.connection import Endpoint
from pgkeras.client.conversion import Actions, no_answer, read_step, seconds_of, translate
from pgkeras.errors import InvalidRequestError, PolicyServiceError, ServerUnavailableError
from pgkeras.protocol.values import cast, cast_mask, is_single, with_batch_axis, write_value
from pgkeras.protocol.wire import write_tensor
from pgkeras.spaces import ActionSpace, Space
from pgkeras.v1 import service_pb2

__all__ = ["PlaySession"]

# How long a server may take to end a session that is closed.
_CLOSING_SECONDS = 1.0

_Outbox = queue.SimpleQueue[service_pb2.PlayRequest | None]
_Inbox = queue.SimpleQueue[service_pb2.PlayResponse | PolicyServiceError]


class PlaySession:
    """An open session; made by :meth:`pgkeras.client.PolicyClient.play`. For one thread at a time.

    Args:
        method: The Play method of a generated stub.
        first: Everything that does not change from message to message; what is read in the first alone, too.
        spaces: What the policy observes, and what it does.
        target: Whom ``method`` calls, for messages.
        timeout: Seconds that a step may take.

    Attributes:
        answer: The whole last answer, with the outputs that were asked for; None before the first.
        hold: bool ``[B]``, from a policy in training: the environments that should not take their action, but show the
            same first observation again in the next step, with ``episode_start``. None where none should wait.
        heard: When the server last said anything, if only to wait, by ``time.monotonic``; None before.
    """

    def __init__(
        self,
        method: Callable[[Iterator[service_pb2.PlayRequest]], Any],
        first: service_pb2.PlayRequest,
        spaces: tuple[Space, ActionSpace],
        target: Endpoint,
        timeout: float,
    ) -> None:
        self.answer: Actions | None = None
        self.hold: NDArray[np.bool_] | None = None
        self.heard: float | None = None
        self._next = first
        self._observation_space, self._action_space = spaces
        self._target = target
        self._timeout = timeout
        self._id = 0
        self._failure: PolicyServiceError | None = None
        self._outbox: _Outbox = queue.SimpleQueue()
        self._inbox: _Inbox = queue.SimpleQueue()
        try:
            self._call = method(iter(self._outbox.get, None))
        except ValueError as error:
            raise ServerUnavailableError(f"the connection to {target} has been closed: {error}") from error
        arguments = (self._call, self._inbox, self._outbox, target, timeout)
        self._reader = threading.Thread(target=_read, args=arguments, name="pgkeras-session", daemon=True)
        self._reader.start()

    def step(
        self,
        observation: Any,
        reward: ArrayLike | None = None,
        terminated: ArrayLike | None = None,
        truncated: ArrayLike | None = None,
        *,
        episode_start: ArrayLike | None = None,
        action_mask: ArrayLike | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Reports what the last action led to, and asks for the next.

        Args:
            observation: Of the observation space's shape for a single environment, or with a leading axis of B
                environments, as many at every step. Cast as by :meth:`pgkeras.client.PolicyClient.act`.
            reward: What the last action earned, a number or ``[B]``. Like the next two, left out at the first step, and
                where every environment starts an episode.
            terminated: Whether it ended the episode in a terminal state, a bool or ``[B]``.
            truncated: Whether the episode was cut off after it, a bool or ``[B]``.
            episode_start: Whether the observation is the first of an episode, a bool or ``[B]``. Left out, it is after
                a step that said ``terminated`` or ``truncated``, as with Gymnasium's next-step autoreset.
            action_mask: As in :meth:`pgkeras.client.PolicyClient.act`.
            timeout: Seconds that this step may take.

        Returns:
            The action, of the action space's dtype and shape, with a leading axis if the observation has one; of a Dict
            or Tuple, a dict or tuple of its parts' actions.

        Raises:
            InvalidRequestError: An argument is wrong; the session is as if the step had not been made. Or the simulator
                that was declared is refused, which ends the session.
            ServerBusyError: The server is busy, and the same step may be made again; or it has too many sessions, which
                ends this one.
            DeadlineExceededError: The answer did not come in time: the step counts, and its action is lost. Or the
                server has ended the session because it was idle.
            ServerUnavailableError: The server is gone or stopping, or the session has been closed.
            PolicyServiceError: Any of its other children.

        After an error, :attr:`is_over` tells whether the session goes on.
        """
        if self._failure is not None:
            raise self._failure
        value = cast(observation, self._observation_space)
        single = is_single(value, self._observation_space)
        request = service_pb2.PlayRequest()
        request.CopyFrom(self._next)
        write_value(request.observation, with_batch_axis(value) if single else value)
        if action_mask is not None:
            mask = cast_mask(action_mask, self._action_space, 0 if single else 1)
            write_tensor(request.action_mask, mask[np.newaxis] if single else mask)
        for field, value, dtype in (
            ("reward", reward, np.float32),
            ("terminated", terminated, np.bool_),
            ("truncated", truncated, np.bool_),
            ("episode_start", episode_start, np.bool_),
        ):
            if value is not None:
                vector = _vector(field, value, np.dtype(dtype))
                write_tensor(getattr(request, field), vector[np.newaxis] if single else vector)
        self._id += 1
        request.id = self._id
        self._outbox.put(request)
        for name in ("policy", "spec_hash", "seed", "simulator"):
            self._next.ClearField(name)
        response = self._receive(seconds_of(timeout, self._timeout))
        self.answer, self.hold = read_step(response, self._action_space, single)
        return self.answer.action

    def __repr__(self) -> str:
        return f"<PlaySession at {self._target}, step {self._id}, {'over' if self.is_over else 'open'}>"

    @property
    def is_over(self) -> bool:
        """Whether the session has ended, with an error or by :meth:`close`; a step then raises what ended it."""
        return self._failure is not None

    def close(self) -> None:
        """Ends the session, for which the server has a second; a step after it raises ServerUnavailableError."""
        self._failure = self._failure or ServerUnavailableError("the session has been closed; open a new one")
        self._outbox.put(None)
        self._reader.join(_CLOSING_SECONDS)
        self._call.cancel()  # does nothing to one that has ended

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _receive(self, timeout: float) -> service_pb2.PlayResponse:
        deadline = time.monotonic() + timeout
        while True:
            try:
                received = self._inbox.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise no_answer(self._target, timeout, "session") from None
            if isinstance(received, PolicyServiceError):
                self._failure = received
                raise received
            self.heard = time.monotonic()
            if received.id != self._id:  # one whose deadline has passed
                continue
            if not received.HasField("waiting"):
                return received
            deadline = time.monotonic() + timeout  # a policy in training is being improved


def _read(call: Any, inbox: _Inbox, outbox: _Outbox, target: Endpoint, timeout: float) -> None:
    try:
        for response in call:
            inbox.put(response)
        inbox.put(ServerUnavailableError(f"{target} has ended the session; open a new one"))
    except grpc.RpcError as error:
        inbox.put(translate(error, target, timeout))
    finally:
        outbox.put(None)  # or gRPC's own thread would wait for another message for ever


def _vector(field: str, value: ArrayLike, dtype: np.dtype[Any]) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InvalidRequestError(field, f"numbers of dtype {dtype}", str(error)) from error
    kinds = "fiu" if dtype.kind == "f" else "b"
    if array.dtype.kind not in kinds:
        raise InvalidRequestError(field, f"what can be cast to dtype {dtype}", f"dtype {array.dtype}")
    with np.errstate(over="ignore"):  # the server refuses what is not finite
        return array.astype(dtype)
