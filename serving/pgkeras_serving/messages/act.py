"""Decodes and checks the requests for one policy, and encodes its responses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.engines import noise
from pgkeras.errors import InvalidRequestError
from pgkeras.protocol.values import decode_value
from pgkeras.protocol.wire import decode_tensor
from pgkeras.spaces import Box, count
from pgkeras.spaces.spec import PolicySpec, check_mask
from pgkeras.v1 import policy_pb2, service_pb2
from pgkeras_serving.messages.responses import DEFAULT_OUTPUTS, OUTPUTS, Query, ResponseEncoder
from pgkeras_serving.messages.sealed_state import StateSeal
from pgkeras_serving.messages.templates import FieldPath, Patterns, number

__all__ = ["PolicyCodec", "surely_finite"]

_GREEDY = service_pb2.ACT_MODE_GREEDY
_MODES = frozenset(service_pb2.ActMode.values())

_Request = service_pb2.ActRequest | service_pb2.PlayRequest

_VALUES = {
    "observation": FieldPath.of(service_pb2.ActRequest, "observation.tensor.data"),
    "state": FieldPath.of(service_pb2.ActRequest, "state"),
    "seed": FieldPath.of(service_pb2.ActRequest, "seed"),
}


class PolicyCodec:
    """Decodes the requests for one policy and encodes its responses.

    Most requests of a simulator differ only in their numbers. The layout of a valid request is therefore kept as a
    pattern, and later requests with this layout are read without parsing. Parsing and checking each of them would take
    longer than the policy itself.

    Args:
        spec: The policy's specification.
        version: The policy version that every response carries.
        max_batch_size: Maximum number of observations in a request.
        state_key: Key that seals memory states; see :class:`StateSeal`.
    """

    def __init__(
        self, spec: PolicySpec, version: policy_pb2.PolicyVersion, max_batch_size: int, state_key: bytes = b""
    ) -> None:
        self._spec = spec
        self._max_batch_size = max_batch_size
        self._layout = spec.layout
        self._seal = StateSeal(state_key, spec.state_size) if spec.state_size else None
        space = spec.observation_space
        self._dtype = self._layout.dtype
        self._is_float = self._dtype.kind == "f"
        # The graph takes the bytes unchanged, and the only check of the values is that they are finite.
        self._takes_bytes = isinstance(space, Box) and not self._layout.packed and space.dtype == self._dtype
        self._shape = (-1, *self._layout.shape)
        self._patterns = Patterns[tuple[bool, bool, frozenset[int], frozenset[str]]](_VALUES)
        self._generator = noise.seeded(None)
        self.answers = ResponseEncoder(spec, version)

    def recall(self, message: bytes) -> Query | None:
        """Decodes a request with the layout of an earlier one. Returns None for other layouts and invalid values.

        Args:
            message: The bytes of an ``ActRequest``.

        Raises:
            InvalidRequestError: The memory state is invalid.
        """
        known = self._patterns.read(message)
        if known is None:
            return None
        asked, values = known
        observation = self.numbers(values["observation"])
        if observation is None:
            return None
        seed = number(values["seed"]) if "seed" in values else None
        return Query(self._inputs(observation, seed, values.get("state", b"")), *asked)

    def decode(self, request: service_pb2.ActRequest, message: bytes = b"") -> Query:
        """Checks a request against the specification and draws its noise.

        Args:
            request: The request.
            message: Its bytes. If not empty, :meth:`recall` will recognize their layout.

        Raises:
            InvalidRequestError: The request is invalid; the error names the field.
        """
        asked = self._asked(request, DEFAULT_OUTPUTS)
        seed = request.seed if request.HasField("seed") else None
        query = asked._replace(inputs=self._inputs(asked.inputs["observation"], seed, request.state))
        if message and self.is_plain(request):
            self._patterns.learn(message, query[1:])
        return query

    def decode_step(self, request: service_pb2.PlayRequest) -> Query:
        """Checks the fields that a session's message shares with an ActRequest. The session adds the noise.

        Raises:
            InvalidRequestError: The message is invalid; the error names the field.
        """
        asked = self._asked(request, frozenset())
        if not asked.has_batch_axis:
            raise InvalidRequestError(
                "observation", "a batch, with a leading axis for the session's environments", "a single observation"
            )
        return asked

    def encode(self, query: Query, answer: Mapping[str, NDArray[Any]]) -> bytes:
        """Encodes the engine's outputs as an ``ActResponse``, with the memory state if the policy has memory."""
        state = b"" if self._seal is None else self._seal.seal(answer["next_state"])
        return self.answers.encode(query, answer, state)

    def is_plain(self, request: _Request) -> bool:
        """Whether the graph takes the bytes of the request's observation unchanged."""
        return self._takes_bytes and not request.HasField("action_mask")

    def numbers(self, data: bytes) -> NDArray[Any] | None:
        """Decodes a plain observation whose length is known to be valid. Returns None unless it is surely finite."""
        array = np.frombuffer(data, self._dtype)
        if self._is_float and not surely_finite(array):
            return None
        return array.reshape(self._shape)

    def _inputs(self, observation: NDArray[Any], seed: int | None, state: bytes) -> dict[str, NDArray[Any]]:
        generator = self._generator if seed is None else noise.seeded(seed)
        drawn = noise.draw(generator, self._spec, len(observation))
        if self._seal is not None:
            return {"observation": observation, "noise": drawn, "state": self._seal.open(state, len(observation))}
        if state:
            raise InvalidRequestError("state", "no bytes, since this policy has no memory", f"{len(state)} bytes")
        return {"observation": observation, "noise": drawn}

    def _asked(self, request: _Request, default_outputs: frozenset[int]) -> Query:
        """Checks a request. The result has no noise and no state yet."""
        if request.mode not in _MODES:
            raise InvalidRequestError("mode", "a known ActMode", str(request.mode))
        outputs: frozenset[int] = frozenset(request.outputs)
        if not outputs <= OUTPUTS:
            unknown = sorted(outputs - OUTPUTS)
            raise InvalidRequestError("outputs", "known ActOutputs other than UNSPECIFIED", str(unknown))
        greedy, outputs = request.mode == _GREEDY, outputs or default_outputs
        observation, has_batch_axis = self._observation(request)
        return Query({"observation": observation}, has_batch_axis, greedy, outputs, self.answers.needs(greedy, outputs))

    def _observation(self, request: _Request) -> tuple[NDArray[Any], bool]:
        value, space = request.observation, self._spec.observation_space
        array = decode_value(value, space)
        batch, has_batch_axis = space.batched(array)
        rows = count(batch)
        if rows > self._max_batch_size:
            raise InvalidRequestError("observation", f"at most {self._max_batch_size} observations", f"{rows}")
        with np.errstate(over="ignore"):
            graph = self._layout.pack(batch, self._mask(request, rows, has_batch_axis))
        if graph is not batch and graph.dtype.kind == "f" and not np.isfinite(graph).all():
            largest = max(float(np.abs(leaf).max()) for leaf in _arrays(batch))
            raise InvalidRequestError("observation", f"numbers within the range of {graph.dtype}", f"{largest}")
        return graph, has_batch_axis

    def _mask(self, request: _Request, rows: int, has_batch_axis: bool) -> NDArray[Any] | None:
        if not request.HasField("action_mask"):
            return None
        size = self._spec.mask_size
        if not size:
            raise InvalidRequestError("action_mask", "none, since this policy takes no mask", "a mask")
        mask = decode_tensor(request.action_mask, "action_mask")
        if mask.dtype != np.bool_:
            raise InvalidRequestError("action_mask", "dtype bool", f"dtype {mask.dtype}")
        shape = [rows, size] if has_batch_axis else [size]
        if list(mask.shape) != shape:
            raise InvalidRequestError("action_mask", f"shape {shape}", f"shape {list(mask.shape)}")
        return check_mask(mask, self._spec)


def surely_finite(array: NDArray[Any]) -> bool:
    """Whether a vector's sum of squares is finite. If it is, all elements are; if not, one may merely be huge."""
    return math.isfinite(array.dot(array))


def _arrays(batch: Any) -> Iterator[NDArray[Any]]:
    """Yields the numeric arrays in a batch of structured observations."""
    if isinstance(batch, Mapping):
        for part in batch.values():
            yield from _arrays(part)
    elif isinstance(batch, np.ndarray):
        yield batch
