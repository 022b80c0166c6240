"""The edge of a policy: requests to arrays and arrays to responses, checked. No transport in it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras import noise
from pgkeras.errors import InvalidRequestError
from pgkeras.spaces import Box, count
from pgkeras.spec import PolicySpec, check_mask
from pgkeras.v1 import policy_pb2, service_pb2, tensors_pb2
from pgkeras.values import decode_value
from pgkeras.wire import decode_tensor, write_tensor
from pgkeras_serving.greedy import greedy_log_prob
from pgkeras_serving.states import StateSeal

__all__ = ["Edge", "Query"]

_GREEDY = service_pb2.ACT_MODE_GREEDY
_LOG_PROB = service_pb2.ACT_OUTPUT_LOG_PROB
_ENTROPY = service_pb2.ACT_OUTPUT_ENTROPY
_DISTRIBUTION = service_pb2.ACT_OUTPUT_DISTRIBUTION
_GREEDY_ACTION = service_pb2.ACT_OUTPUT_GREEDY_ACTION

_Request = service_pb2.ActRequest | service_pb2.PlayRequest

_MODES = frozenset(service_pb2.ActMode.values())
_OUTPUTS = frozenset(service_pb2.ActOutput.values()) - {service_pb2.ACT_OUTPUT_UNSPECIFIED}
_DEFAULT_OUTPUTS = frozenset({_LOG_PROB, _ENTROPY, _DISTRIBUTION})

# How many layouts (dtype and shape) of observations that have proved right are remembered per policy.
_MOST_LAYOUTS = 256
_NOISE_AHEAD = 1024


@dataclass(frozen=True, slots=True)
class Query:
    """A request that has been checked.

    Args:
        inputs: What the engine takes: observation ``[B, ...]``, noise ``[B, noise_size]`` and, for a policy with
            memory, state ``[B, state_size]``.
        has_batch_axis: Whether the request was a batch, so that the answer is one too.
        greedy: Whether the action is the distribution's mode.
        outputs: ActOutput numbers wanted besides the action.
    """

    inputs: dict[str, NDArray[Any]]
    has_batch_axis: bool
    greedy: bool
    outputs: frozenset[int]


class Edge:
    """Decodes the requests for one policy and encodes its answers.

    Nearly all requests of a simulator have one layout, so what has been found out about it is remembered: checking it
    afresh, with NumPy's cold code between two calls, would take longer than the policy itself.

    Args:
        spec: What the policy consumes and produces.
        version: What every answer carries.
        max_batch_size: Most observations in a request.
        state_key: What states are sealed with; see :class:`StateSeal`.
    """

    def __init__(
        self, spec: PolicySpec, version: policy_pb2.PolicyVersion, max_batch_size: int, state_key: bytes = b""
    ) -> None:
        self._spec = spec
        self._version = version
        self._max_batch_size = max_batch_size
        self._layout = spec.layout
        self._seal = StateSeal(state_key, spec.state_size) if spec.state_size else None
        space = spec.observation_space
        self._dtype = self._layout.dtype
        self._is_float = self._dtype.kind == "f"
        # Where the graph takes the bytes as they come, and the only check on values is that they are finite.
        self._takes_bytes = isinstance(space, Box) and not self._layout.packed and space.dtype == self._dtype
        # By (DataType, shape) of layouts that are right: whether there is a batch axis, and the length in bytes.
        self._layouts: dict[tuple[int, tuple[int, ...]], tuple[bool, int]] = {}
        self._shape = (-1, *self._layout.shape)
        # By (rows, or None for a single observation, and outputs).
        self._templates: dict[tuple[int | None, frozenset[int]], bytes] = {}
        self._noise = _FreshNoise(spec)

    def decode(self, request: service_pb2.ActRequest) -> Query:
        """Checks a request against the spec, and draws its noise.

        Raises:
            InvalidRequestError: Something about it is wrong; the error names the field.
        """
        outputs = self._check_choices(request) or _DEFAULT_OUTPUTS
        observation, has_batch_axis = self._observation(request)
        if request.HasField("seed"):
            drawn = noise.draw(noise.seeded(request.seed), self._spec, len(observation))
        else:
            drawn = self._noise.take(len(observation))
        inputs = {"observation": observation, "noise": drawn}
        if self._seal is not None:
            inputs["state"] = self._seal.open(request.state, len(observation))
        elif request.state:
            raise InvalidRequestError(
                "state", "no bytes, since this policy has no memory", f"{len(request.state)} bytes"
            )
        return Query(inputs, has_batch_axis, request.mode == _GREEDY, outputs)

    def decode_step(self, request: service_pb2.PlayRequest) -> Query:
        """Checks what a session's message has in common with a call; the noise is the session's to put in.

        Raises:
            InvalidRequestError: Something about it is wrong; the error names the field.
        """
        outputs = self._check_choices(request)
        observation, has_batch_axis = self._observation(request)
        if not has_batch_axis:
            raise InvalidRequestError(
                "observation", "a batch, with a leading axis for the session's environments", "a single observation"
            )
        return Query({"observation": observation}, True, request.mode == _GREEDY, outputs)

    def encode(self, query: Query, answer: Mapping[str, NDArray[Any]]) -> service_pb2.ActResponse:
        """The engine's answer as the response to a request."""
        response = service_pb2.ActResponse()
        self.write(response, query, answer)
        if self._seal is not None:
            response.state = self._seal.seal(answer["next_state"])
        return response

    def write(self, response: service_pb2.ActResponse, query: Query, answer: Mapping[str, NDArray[Any]]) -> None:
        """Writes the engine's answer into an empty response."""
        arrays = answer
        if query.greedy:
            arrays = {**arrays, "action": arrays["greedy_action"]}
            if _LOG_PROB in query.outputs:
                arrays["log_prob"] = greedy_log_prob(self._spec, arrays)
        if arrays["action"].dtype != self._spec.action_space.dtype:
            actions = {name: self._spec.from_graph(arrays[name]) for name in ("action", "greedy_action")}
            arrays = {**arrays, **actions}
        key = (len(arrays["action"]) if query.has_batch_axis else None, query.outputs)
        template = self._templates.get(key)
        if template is None:
            template = self._new_template(query, arrays)
            if len(self._templates) < _MOST_LAYOUTS:
                self._templates[key] = template
        response.MergeFromString(template)
        for name, tensor in self._tensors(response, query.outputs):
            tensor.data = arrays[name].tobytes()

    def _new_template(self, query: Query, arrays: Mapping[str, NDArray[Any]]) -> bytes:
        """A response with everything but the tensors' data, which is all that changes from call to call."""
        response = service_pb2.ActResponse(policy=self._version)
        for name, tensor in self._tensors(response, query.outputs):
            array = arrays[name]
            write_tensor(tensor, array if query.has_batch_axis else array.reshape(array.shape[1:]))
            tensor.ClearField("data")
        return response.SerializeToString()

    def _tensors(
        self, response: service_pb2.ActResponse, outputs: frozenset[int]
    ) -> Iterator[tuple[str, tensors_pb2.Tensor]]:
        yield "action", response.action
        if _LOG_PROB in outputs:
            yield "log_prob", response.log_prob
        if _ENTROPY in outputs:
            yield "entropy", response.entropy
        if _GREEDY_ACTION in outputs:
            yield "greedy_action", response.greedy_action
        if _DISTRIBUTION in outputs:
            parameters = getattr(response.distribution, self._spec.distribution.value)
            for name in self._spec.distribution.parameters:
                yield name, getattr(parameters, name)

    @staticmethod
    def _check_choices(request: _Request) -> frozenset[int]:
        if request.mode not in _MODES:
            raise InvalidRequestError("mode", "a known ActMode", str(request.mode))
        outputs = frozenset(request.outputs)
        if not outputs <= _OUTPUTS:
            unknown = sorted(outputs - _OUTPUTS)
            raise InvalidRequestError("outputs", "known ActOutputs other than UNSPECIFIED", str(unknown))
        return outputs

    def _observation(self, request: _Request) -> tuple[NDArray[Any], bool]:
        if request.HasField("action_mask"):
            return self._check(request)
        tensor = request.observation.tensor
        has_batch_axis, size = self._layouts.get((tensor.dtype, tuple(tensor.shape)), (False, -1))
        data = tensor.data
        if len(data) != size:
            return self._check(request)
        array = np.frombuffer(data, self._dtype)
        # A sum of squares is finite unless an element is not, or is huge: then the full check tells.
        if self._is_float and not math.isfinite(array.dot(array)):
            return self._check(request)
        return array.reshape(self._shape), has_batch_axis

    def _check(self, request: _Request) -> tuple[NDArray[Any], bool]:
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
        if self._takes_bytes and len(self._layouts) < _MOST_LAYOUTS:
            self._layouts[value.tensor.dtype, tuple(value.tensor.shape)] = (has_batch_axis, array.nbytes)
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


def _arrays(batch: Any) -> Iterator[NDArray[Any]]:
    """The arrays of numbers in a batch of structured observations."""
    if isinstance(batch, Mapping):
        for part in batch.values():
            yield from _arrays(part)
    elif isinstance(batch, np.ndarray):
        yield batch


class _FreshNoise:
    """Noise for requests without a seed, drawn ahead: many rows at once take hardly longer than one."""

    def __init__(self, spec: PolicySpec) -> None:
        self._spec = spec
        self._generator = noise.seeded(None)
        self._rows = noise.draw(self._generator, spec, 0)
        self._used = 0

    def take(self, rows: int) -> NDArray[np.float32]:
        """The next ``rows`` rows."""
        start = self._used
        if start + rows > len(self._rows):
            self._rows = noise.draw(self._generator, self._spec, max(rows, _NOISE_AHEAD))
            start = 0
        self._used = start + rows
        return self._rows[start : self._used]
