"""The edge of Act: requests to arrays and arrays to responses, checked. Pure functions; no transport in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras import noise
from pgkeras.errors import InvalidRequestError
from pgkeras.spec import PolicySpec
from pgkeras.v1 import policy_pb2, service_pb2
from pgkeras.wire import decode_tensor, write_distribution, write_tensor
from pgkeras_serving.greedy import greedy_log_prob

__all__ = ["Query", "decode", "encode"]

_GREEDY = service_pb2.ACT_MODE_GREEDY
_LOG_PROB = service_pb2.ACT_OUTPUT_LOG_PROB
_ENTROPY = service_pb2.ACT_OUTPUT_ENTROPY
_DISTRIBUTION = service_pb2.ACT_OUTPUT_DISTRIBUTION
_GREEDY_ACTION = service_pb2.ACT_OUTPUT_GREEDY_ACTION

_MODES = frozenset(service_pb2.ActMode.values())
_OUTPUTS = frozenset(service_pb2.ActOutput.values()) - {service_pb2.ACT_OUTPUT_UNSPECIFIED}
_DEFAULT_OUTPUTS = frozenset({_LOG_PROB, _ENTROPY, _DISTRIBUTION})


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


def decode(
    request: service_pb2.ActRequest, spec: PolicySpec, max_batch_size: int, randomness: np.random.Generator
) -> Query:
    """Checks a request against a policy's spec.

    Args:
        request: The request.
        spec: What the policy consumes.
        max_batch_size: Most observations.
        randomness: Where the noise of requests without a seed comes from.

    Raises:
        InvalidRequestError: Something about it is wrong; the error names the field.
    """
    if request.HasField("action_mask"):
        raise InvalidRequestError("action_mask", "none, since this policy takes no mask", "a mask")
    if request.state:
        expected = "no bytes, since this policy has no memory"
        raise InvalidRequestError("state", expected, f"{len(request.state)} bytes")
    mode = request.mode
    if mode not in _MODES:
        raise InvalidRequestError("mode", "a known ActMode", str(mode))
    outputs = frozenset(request.outputs) or _DEFAULT_OUTPUTS
    if not outputs <= _OUTPUTS:
        raise InvalidRequestError("outputs", "known ActOutputs other than UNSPECIFIED", str(sorted(outputs - _OUTPUTS)))
    observation, has_batch_axis = _observation(request.observation, spec)
    rows = len(observation)
    if rows > max_batch_size:
        raise InvalidRequestError("observation", f"at most {max_batch_size} observations", f"{rows}")
    greedy = mode == _GREEDY
    if greedy:
        drawn = np.zeros((rows, spec.noise_size), np.float32)
    else:
        generator = noise.seeded(request.seed) if request.HasField("seed") else randomness
        drawn = noise.draw(generator, spec, rows)
    return Query({"observation": observation, "noise": drawn}, has_batch_axis, greedy, outputs)


def encode(
    query: Query, answer: Mapping[str, NDArray[Any]], spec: PolicySpec, version: policy_pb2.PolicyVersion
) -> service_pb2.ActResponse:
    """The engine's answer as the response to a request."""
    arrays = dict(answer)
    if query.greedy:
        arrays["action"] = arrays["greedy_action"]
        if _LOG_PROB in query.outputs:
            arrays["log_prob"] = greedy_log_prob(spec.distribution, arrays)
    if not query.has_batch_axis:
        arrays = {name: array.reshape(array.shape[1:]) for name, array in arrays.items()}
    response = service_pb2.ActResponse(policy=version)
    write_tensor(response.action, spec.from_graph(arrays["action"]))
    if _LOG_PROB in query.outputs:
        write_tensor(response.log_prob, arrays["log_prob"])
    if _ENTROPY in query.outputs:
        write_tensor(response.entropy, arrays["entropy"])
    if _GREEDY_ACTION in query.outputs:
        write_tensor(response.greedy_action, spec.from_graph(arrays["greedy_action"]))
    if _DISTRIBUTION in query.outputs:
        write_distribution(response.distribution, spec.distribution, arrays)
    return response


def _observation(value: Any, spec: PolicySpec) -> tuple[NDArray[Any], bool]:
    kind = value.WhichOneof("kind")
    if kind != "tensor":
        raise InvalidRequestError("observation", "a tensor", kind or "nothing")
    batch, has_batch_axis = spec.observation_space.batched(decode_tensor(value.tensor, "observation.tensor"))
    with np.errstate(over="ignore"):
        graph = spec.to_graph(batch)
    if graph is not batch and graph.dtype.kind == "f" and not np.isfinite(graph).all():
        raise InvalidRequestError("observation", f"numbers within the range of {graph.dtype}", f"{np.abs(batch).max()}")
    return graph, has_batch_axis
