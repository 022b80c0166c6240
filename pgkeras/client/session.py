"""PlaySession: a simulator's session with a policy server."""

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

# Time for the server to end a session that is being closed.
_CLOSING_SECONDS = 1.0

_Outbox = queue.SimpleQueue[service_pb2.PlayRequest | None]
_Inbox = queue.SimpleQueue[service_pb2.PlayResponse | PolicyServiceError]


class PlaySession:
    """An open session, created by :meth:`pgkeras.client.PolicyClient.play`. Not thread-safe.

    Args:
        method: The Play method of a generated stub.
        first: The fields that all messages share, and those of the first message.
        spaces: The observation and the action space.
        target: The server, for error messages.
        timeout: Timeout of a step in seconds.

    Attributes:
        answer: The last response, with the requested outputs; None before the first.
        hold: bool ``[B]``, from a policy in training: the environments that must not take their action, but send the
            same first observation again in the next step, with ``episode_start``. None if no environment must wait.
        heard: Time of the server's last message (``time.monotonic``); None before the first.
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
        """Reports the outcome of the last action, and requests the next one.

        Args:
            observation: An observation with the space's shape for a single environment, or with a leading axis for B
                environments, the same number at every step. Cast as by :meth:`pgkeras.client.PolicyClient.act`.
            reward: Reward of the last action, a number or ``[B]``. Omit it and the next two in the first step, and if
                every environment starts an episode.
            terminated: Whether the last action led to a terminal state, a bool or ``[B]``.
            truncated: Whether the episode was truncated after the last action, a bool or ``[B]``.
            episode_start: Whether the observation is the first of an episode, a bool or ``[B]``. By default, that is
                the case after a step with ``terminated`` or ``truncated``, as with Gymnasium's next-step autoreset.
            action_mask: As in :meth:`pgkeras.client.PolicyClient.act`.
            timeout: Timeout of this step in seconds.

        Returns:
            The action, of the action space's dtype and shape, with a leading axis if the observation has one; for a
            Dict or Tuple, a dict or tuple of the actions of its parts.

        Raises:
            InvalidRequestError: An argument is invalid, and the session is unchanged; or the declared simulator is
                refused, which ends the session.
            ServerBusyError: The server is busy, and the step may be repeated; or it has too many sessions, which ends
                this one.
            DeadlineExceededError: No response arrived in time: the step counts, and its action is lost. Or the server
                has ended the session because it was idle.
            ServerUnavailableError: The server has ended or is stopping, or the session has been closed.
            PolicyServiceError: Another error of the step.

        After an error, :attr:`is_over` is True if the session has ended.
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
        """Whether the session has ended, by an error or by :meth:`close`. A step then raises the reason."""
        return self._failure is not None

    def close(self) -> None:
        """Ends the session and waits for the server for up to a second. Later steps raise ServerUnavailableError."""
        self._failure = self._failure or ServerUnavailableError("the session has been closed; open a new one")
        self._outbox.put(None)
        self._reader.join(_CLOSING_SECONDS)
        self._call.cancel()  # no effect if the call has ended

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
            if received.id != self._id:  # the response to a step that has timed out
                continue
            if not received.HasField("waiting"):
                return received
            deadline = time.monotonic() + timeout  # a policy in training is being updated


def _read(call: Any, inbox: _Inbox, outbox: _Outbox, target: Endpoint, timeout: float) -> None:
    try:
        for response in call:
            inbox.put(response)
        inbox.put(ServerUnavailableError(f"{target} has ended the session; open a new one"))
    except grpc.RpcError as error:
        inbox.put(translate(error, target, timeout))
    finally:
        outbox.put(None)  # otherwise gRPC's thread would wait for another message forever


def _vector(field: str, value: ArrayLike, dtype: np.dtype[Any]) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InvalidRequestError(field, f"numbers of dtype {dtype}", str(error)) from error
    kinds = "fiu" if dtype.kind == "f" else "b"
    if array.dtype.kind not in kinds:
        raise InvalidRequestError(field, f"what can be cast to dtype {dtype}", f"dtype {array.dtype}")
    with np.errstate(over="ignore"):  # the server refuses infinite values
        return array.astype(dtype)
