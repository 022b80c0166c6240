"""Decodes the messages of a session and makes the checks that do not depend on the session's state."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgkeras.errors import InvalidRequestError
from pgkeras.protocol.wire import decode_tensor
from pgkeras.v1 import service_pb2, tensors_pb2
from pgkeras_serving.messages.act import PolicyCodec, surely_finite
from pgkeras_serving.messages.parsing import parse
from pgkeras_serving.messages.responses import Query
from pgkeras_serving.messages.templates import FieldPath, Patterns, number

__all__ = ["OUTCOME", "Step", "Steps", "Transition"]

_FLOAT32: np.dtype[Any] = np.dtype(np.float32)
_BOOL: np.dtype[Any] = np.dtype(np.bool_)
OUTCOME = ("reward", "terminated", "truncated")
"""The fields that report the outcome of the previous actions."""
_FLAGS = ("terminated", "truncated", "episode_start")
_DTYPES = {"reward": _FLOAT32, **dict.fromkeys(_FLAGS, _BOOL)}
_TRUE = b"\1"

_VALUES = {
    "id": FieldPath.of(service_pb2.PlayRequest, "id"),
    "observation": FieldPath.of(service_pb2.PlayRequest, "observation.tensor.data"),
    "reward": FieldPath.of(service_pb2.PlayRequest, "reward.data"),
    **{name: FieldPath.of(service_pb2.PlayRequest, f"{name}.data", rb"[\x00\x01]") for name in _FLAGS},
}


class Transition(NamedTuple):
    """The outcome of the previous actions of a session's environments.

    Args:
        reward: float32 ``[B]``.
        ended: bool ``[B]``: whether the episode was terminated or truncated; None if no episode ended.
        terminated: bool ``[B]``: whether the episode ended in a terminal state.
    """

    reward: NDArray[np.float32]
    ended: NDArray[np.bool_] | None
    terminated: NDArray[np.bool_]


class Step(NamedTuple):
    """One message of a session of B environments.

    Args:
        message_id: The message's id.
        query: The checked request. The session adds noise and state.
        given: The fields of ``OUTCOME`` that are present.
        transition: The outcome of the previous actions; None if one of these fields is missing.
        episode_start: bool ``[B]``: whether the observation is the first of an episode; None if not given.
    """

    message_id: int
    query: Query
    given: tuple[str, ...]
    transition: Transition | None
    episode_start: NDArray[np.bool_] | None


class Steps:
    """Decodes the messages of all sessions with one policy; see :class:`pgkeras_serving.messages.act.PolicyCodec`."""

    def __init__(self, codec: PolicyCodec) -> None:
        self._codec = codec
        self._patterns = Patterns[tuple[tuple[Any, ...], tuple[str, ...]]](_VALUES)

    def decode(self, message: bytes, rows: int | None) -> Step:
        """Checks a message against the spec and the number of the session's environments.

        Args:
            message: The bytes of a ``PlayRequest``.
            rows: The number of the session's environments; None before its first message.

        Raises:
            InvalidRequestError: The message is invalid; the error names the field.
        """
        step = self._recall(message, rows)
        if step is None:
            request = parse(service_pb2.PlayRequest, message)
            step = self._check(request, rows)
            if self._codec.is_plain(request):
                self._patterns.learn(message, (step.query[1:], step.given))
        return step

    def _recall(self, message: bytes, rows: int | None) -> Step | None:
        """Decodes a message with the layout of an earlier one. Returns None for other layouts and invalid values."""
        known = self._patterns.read(message)
        if known is None:
            return None
        (asked, given), values = known
        observation = self._codec.numbers(values["observation"])
        if observation is None or rows not in (None, len(observation)):
            return None
        transition = None
        if given == OUTCOME:
            reward = np.frombuffer(values["reward"], _FLOAT32)
            if not surely_finite(reward):
                return None
            terminated, truncated = np.frombuffer(values["terminated"], _BOOL), values["truncated"]
            ended = None
            if _TRUE in values["terminated"] or _TRUE in truncated:
                ended = terminated | np.frombuffer(truncated, _BOOL)
            transition = Transition(reward, ended, terminated)
        start = np.frombuffer(values["episode_start"], _BOOL) if "episode_start" in values else None
        message_id = number(values["id"]) if "id" in values else 0
        return Step(message_id, Query({"observation": observation}, *asked), given, transition, start)

    def _check(self, request: service_pb2.PlayRequest, rows: int | None) -> Step:
        query = self._codec.decode_step(request)
        here = len(query.inputs["observation"])
        if rows not in (None, here):
            expected = f"{rows} observations, as in the session's first message"
            raise InvalidRequestError("observation", expected, str(here))
        vectors = {
            name: _vector(getattr(request, name), name, _DTYPES[name], here)
            for name in _DTYPES
            if request.HasField(name)
        }
        given = tuple(name for name in OUTCOME if name in vectors)
        transition = None
        if given == OUTCOME:
            ended = vectors["terminated"] | vectors["truncated"]
            transition = Transition(vectors["reward"], ended if ended.any() else None, vectors["terminated"])
        return Step(request.id, query, given, transition, vectors.get("episode_start"))


def _vector(tensor: tensors_pb2.Tensor, name: str, dtype: np.dtype[Any], rows: int) -> NDArray[Any]:
    array = decode_tensor(tensor, name)
    if array.dtype != dtype:
        raise InvalidRequestError(name, f"dtype {dtype}", f"dtype {array.dtype}")
    if array.shape != (rows,):
        raise InvalidRequestError(name, f"shape [{rows}], one element per environment", f"shape {list(array.shape)}")
    if not np.isfinite(array).all():
        raise InvalidRequestError(name, "finite numbers", str(array[~np.isfinite(array)][0]))
    return array
