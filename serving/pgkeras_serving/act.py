"""The edge of Act: requests to arrays and arrays to responses, checked. No transport in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras import noise
from pgkeras.errors import InvalidRequestError
from pgkeras.spaces import Box
from pgkeras.spec import PolicySpec, graph_dtype
from pgkeras.v1 import policy_pb2, service_pb2, tensors_pb2
from pgkeras.wire import decode_tensor, write_distribution, write_tensor
from pgkeras_serving.greedy import greedy_log_prob

__all__ = ["Edge", "Query"]

_GREEDY = service_pb2.ACT_MODE_GREEDY
_LOG_PROB = service_pb2.ACT_OUTPUT_LOG_PROB
_ENTROPY = service_pb2.ACT_OUTPUT_ENTROPY
_DISTRIBUTION = service_pb2.ACT_OUTPUT_DISTRIBUTION
_GREEDY_ACTION = service_pb2.ACT_OUTPUT_GREEDY_ACTION

_MODES = frozenset(service_pb2.ActMode.values())
_OUTPUTS = frozenset(service_pb2.ActOutput.values()) - {service_pb2.ACT_OUTPUT_UNSPECIFIED}
_DEFAULT_OUTPUTS = frozenset({_LOG_PROB, _ENTROPY, _DISTRIBUTION})

# How many layouts (dtype and shape) of observations that have proved right are remembered per policy.
_MOST_LAYOUTS = 256


@dataclass(frozen=True, slots=True)
class Query:
    """A request that has been checked.

    Args:
        inputs: What the engine takes: observation ``[B, ...]`` and noise ``[B, noise_size]``.
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
    """

    def __init__(self, spec: PolicySpec, version: policy_pb2.PolicyVersion, max_batch_size: int) -> None:
        self._spec = spec
        self._max_batch_size = max_batch_size
        dtype = spec.observation_space.dtype
        self._dtype = dtype
        self._is_float = dtype.kind == "f"
        # Where the graph takes the bytes as they come, and the only check on values is that they are finite.
        self._takes_bytes = isinstance(spec.observation_space, Box) and graph_dtype(dtype) == dtype
        # By (DataType, shape) of layouts that are right: whether there is a batch axis, and the length in bytes.
        self._layouts: dict[tuple[int, tuple[int, ...]], tuple[bool, int]] = {}
        self._shape = (-1, *spec.observation_space.shape)
        self._blank = service_pb2.ActResponse(policy=version).SerializeToString()

    def decode(self, request: service_pb2.ActRequest, randomness: np.random.Generator) -> Query:
        """Checks a request against the spec.

        Args:
            request: The request.
            randomness: Where the noise of requests without a seed comes from.

        Raises:
            InvalidRequestError: Something about it is wrong; the error names the field.
        """
        if request.HasField("action_mask"):
            raise InvalidRequestError("action_mask", "none, since this policy takes no mask", "a mask")
        if request.state:
            raise InvalidRequestError("state", "no bytes, since this policy has no memory", f"{len(request.state)} bytes")
        mode = request.mode
        if mode not in _MODES:
            raise InvalidRequestError("mode", "a known ActMode", str(mode))
        outputs = frozenset(request.outputs) or _DEFAULT_OUTPUTS
        if not outputs <= _OUTPUTS:
            unknown = sorted(outputs - _OUTPUTS)
            raise InvalidRequestError("outputs", "known ActOutputs other than UNSPECIFIED", str(unknown))
        observation, has_batch_axis = self._observation(request.observation)
        greedy = mode == _GREEDY
        if greedy:
            drawn = np.zeros((len(observation), self._spec.noise_size), np.float32)
        else:
            generator = noise.seeded(request.seed) if request.HasField("seed") else randomness
            drawn = noise.draw(generator, self._spec, len(observation))
        return Query({"observation": observation, "noise": drawn}, has_batch_axis, greedy, outputs)

    def encode(self, query: Query, answer: Mapping[str, NDArray[Any]]) -> service_pb2.ActResponse:
        """The engine's answer as the response to a request."""
        spec, outputs = self._spec, query.outputs
        arrays = dict(answer)
        if query.greedy:
            arrays["action"] = arrays["greedy_action"]
            if _LOG_PROB in outputs:
                arrays["log_prob"] = greedy_log_prob(spec.distribution, arrays)
        if not query.has_batch_axis:
            arrays = {name: array.reshape(array.shape[1:]) for name, array in arrays.items()}
        response = service_pb2.ActResponse.FromString(self._blank)
        write_tensor(response.action, spec.from_graph(arrays["action"]))
        if _LOG_PROB in outputs:
            write_tensor(response.log_prob, arrays["log_prob"])
        if _ENTROPY in outputs:
            write_tensor(response.entropy, arrays["entropy"])
        if _GREEDY_ACTION in outputs:
            write_tensor(response.greedy_action, spec.from_graph(arrays["greedy_action"]))
        if _DISTRIBUTION in outputs:
            write_distribution(response.distribution, spec.distribution, arrays)
        return response

    def _observation(self, value: tensors_pb2.Value) -> tuple[NDArray[Any], bool]:
        tensor = value.tensor
        has_batch_axis, size = self._layouts.get((tensor.dtype, tuple(tensor.shape)), (False, -1))
        data = tensor.data
        if len(data) != size:
            return self._check(value)
        array = np.frombuffer(data, self._dtype)
        # A sum of squares is finite unless an element is not, or is huge: then the full check tells.
        if self._is_float and not math.isfinite(array.dot(array)):
            return self._check(value)
        return array.reshape(self._shape), has_batch_axis

    def _check(self, value: tensors_pb2.Value) -> tuple[NDArray[Any], bool]:
        kind = value.WhichOneof("kind")
        if kind != "tensor":
            raise InvalidRequestError("observation", "a tensor", kind or "nothing")
        array = decode_tensor(value.tensor, "observation.tensor")
        batch, has_batch_axis = self._spec.observation_space.batched(array)
        if len(batch) > self._max_batch_size:
            raise InvalidRequestError("observation", f"at most {self._max_batch_size} observations", f"{len(batch)}")
        with np.errstate(over="ignore"):
            graph = self._spec.to_graph(batch)
        if graph is not batch and graph.dtype.kind == "f" and not np.isfinite(graph).all():
            expected = f"numbers within the range of {graph.dtype}"
            raise InvalidRequestError("observation", expected, f"{np.abs(batch).max()}")
        if self._takes_bytes and len(self._layouts) < _MOST_LAYOUTS:
            self._layouts[value.tensor.dtype, tuple(value.tensor.shape)] = (has_batch_axis, array.nbytes)
        return graph, has_batch_axis
