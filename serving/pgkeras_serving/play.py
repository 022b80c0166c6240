"""The edge of Play: one simulator's session, message by message. No transport in it."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras import noise
from pgkeras.errors import InvalidRequestError, PolicyServiceError, ServerFailedError
from pgkeras.spec import PolicySpec
from pgkeras.state import start_over
from pgkeras.status import encode_error
from pgkeras.v1 import service_pb2, tensors_pb2
from pgkeras.wire import decode_tensor
from pgkeras_serving.catalog import LoadedPolicy
from pgkeras_serving.episodes import Episodes, Record, Transition

__all__ = ["Session"]

logger = logging.getLogger(__name__)

_OUTCOME = ("reward", "terminated", "truncated")
_FLOAT32: np.dtype[Any] = np.dtype(np.float32)
_BOOL: np.dtype[Any] = np.dtype(np.bool_)
_NUMBERS = {_FLOAT32: tensors_pb2.DATA_TYPE_FLOAT32, _BOOL: tensors_pb2.DATA_TYPE_BOOL}


class Session:
    """One simulator's session with one version of a policy.

    A message takes effect when it is answered with actions, and not at all when it is answered with an error: the
    session's noise and episodes are then as if it had not come. The first message that is right fixes the number of
    environments.

    Args:
        policy: The version, which stays the same however long the session lasts.
        seed: Makes the session reproducible: the noise of all its answers comes, in order, from this seed's generator.
        record: Is told every episode that ends.
        caller: Who plays, as :meth:`pgkeras_serving.batcher.Batcher.submit` knows them.
    """

    def __init__(self, policy: LoadedPolicy, seed: int | None, record: Record, caller: str = "") -> None:
        self._policy = policy
        self._record = record
        self._caller = caller
        self._noise = _Noise(policy.spec, seed)
        self._episodes: Episodes | None = None
        self._state: NDArray[np.float32] | None = None  # of every environment, for a policy with memory

    @property
    def version(self) -> tuple[str, int]:
        """The policy's name and its version."""
        return self._policy.version.name, self._policy.version.version

    async def answer(self, request: service_pb2.PlayRequest) -> service_pb2.PlayResponse:
        """Answers one message, with actions or with the error that concerns it."""
        response = service_pb2.PlayResponse(id=request.id)
        try:
            await self._act(request, response.act)
        except PolicyServiceError as error:
            failure = error
        except Exception:
            logger.exception("a message of a session failed")
            failure = ServerFailedError("this message failed; the server's log has the reason")
        else:
            return response
        status = encode_error(failure)
        response.error.code, response.error.message = status.code, status.message
        response.error.details.extend(status.details)
        return response

    async def _act(self, request: service_pb2.PlayRequest, response: service_pb2.ActResponse) -> None:
        arrival = time.perf_counter_ns()
        edge, batcher = self._policy.edge, self._policy.batcher
        query = edge.decode_step(request)
        rows = len(query.inputs["observation"])
        if self._episodes is not None and rows != len(self._episodes.over):
            expected = f"{len(self._episodes.over)} observations, as in the session's first message"
            raise InvalidRequestError("observation", expected, str(rows))
        start = _vector(request, "episode_start", _BOOL, rows) if request.HasField("episode_start") else None
        transition = self._transition(request, rows, start)
        self._episodes = self._episodes or Episodes(rows, self._record)
        query.inputs["noise"] = self._noise.peek(rows)
        if size := self._policy.spec.state_size:
            query.inputs["state"] = start_over(self._state, self._episodes.over if start is None else start, size)
        answer = batcher.run_now(query.inputs) or await batcher.submit(query.inputs, self._caller)
        encoding = time.perf_counter_ns()
        edge.write(response, query, answer)
        self._policy.meter.answered(answer, query.greedy, arrival, encoding, time.perf_counter_ns())
        self._episodes.advance(transition, start)
        self._noise.consume()
        self._state = answer.get("next_state")

    def _transition(self, request: service_pb2.PlayRequest, rows: int, start: NDArray[Any] | None) -> Transition | None:
        given = [name for name in _OUTCOME if request.HasField(name)]
        if self._episodes is None:
            if given:
                raise InvalidRequestError(given[0], "nothing in a session's first message, before any action", "one")
            if start is not None and not start.all():
                raise InvalidRequestError("episode_start", "true everywhere in a session's first message", "false")
            return None
        if not given and (self._episodes.over if start is None else start).all():
            return None
        for name in _OUTCOME:
            if name not in given:
                expected = "what the previous actions led to, unless every environment starts an episode"
                raise InvalidRequestError(name, expected, "nothing")
        reward = _vector(request, "reward", _FLOAT32, rows)
        terminated, truncated = (_vector(request, name, _BOOL, rows) for name in ("terminated", "truncated"))
        return Transition(reward, terminated | truncated)


class _Noise:
    """A session's noise: what a message has been shown it is shown again, until one has been answered with it."""

    def __init__(self, spec: PolicySpec, seed: int | None) -> None:
        self._spec = spec
        self._generator = noise.seeded(seed)
        self._next: NDArray[np.float32] | None = None

    def peek(self, rows: int) -> NDArray[np.float32]:
        """The noise for the next answer, ``[rows, noise_size]``."""
        if self._next is None:
            self._next = noise.draw(self._generator, self._spec, rows)
        return self._next

    def consume(self) -> None:
        """Goes on to the noise after it."""
        self._next = None


def _vector(request: service_pb2.PlayRequest, name: str, dtype: np.dtype[Any], rows: int) -> NDArray[Any]:
    tensor: tensors_pb2.Tensor = getattr(request, name)
    data = tensor.data
    # Nearly every message is right, and is found to be so in a tenth of the time that a full check takes.
    if tensor.dtype == _NUMBERS[dtype] and len(data) == rows * dtype.itemsize and tensor.shape == [rows]:
        array = np.frombuffer(data, dtype)
        # A sum of squares is finite unless an element is not, or is huge: then the full check tells.
        if not data.strip(b"\0\1") if dtype is _BOOL else math.isfinite(array.dot(array)):
            return array
    return _check_vector(tensor, name, dtype, rows)


def _check_vector(tensor: tensors_pb2.Tensor, name: str, dtype: np.dtype[Any], rows: int) -> NDArray[Any]:
    array = decode_tensor(tensor, name)
    if array.dtype != dtype:
        raise InvalidRequestError(name, f"dtype {dtype}", f"dtype {array.dtype}")
    if array.shape != (rows,):
        raise InvalidRequestError(name, f"shape [{rows}], one element per environment", f"shape {list(array.shape)}")
    if not np.isfinite(array).all():
        raise InvalidRequestError(name, "finite numbers", str(array[~np.isfinite(array)][0]))
    return array
