"""Encoded requests with random observations from a policy's space."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.client.client import PolicyInfo
from pgkeras.protocol.values import first, write_value
from pgkeras.protocol.wire import encode_tensor, write_tensor
from pgkeras.spaces import ArraySpace, Box, Dict, Space, Text, Tuple, draw_integers, parts
from pgkeras.spaces.tokenizer import FIRST, decode
from pgkeras.v1 import policy_pb2, service_pb2

__all__ = ["act_requests", "play_requests", "random_values"]

# Enough different requests to defeat caches, within a memory limit for images.
_MAX_REQUESTS = 256
_MAX_BYTES = 64 * 2**20


def act_requests(
    info: PolicyInfo, ref: policy_pb2.PolicyRef, rows: int | None, generator: np.random.Generator
) -> list[bytes]:
    """Returns serialized ActRequests.

    Args:
        info: The policy.
        ref: The reference to the policy in the requests.
        rows: Observations per request; None for a single one without a batch axis.
        generator: Source of randomness.
    """
    requests = []
    for observation in _observations(info, rows or 1, generator):
        request = service_pb2.ActRequest(policy=ref, spec_hash=info.spec_hash)
        write_value(request.observation, first(observation) if rows is None else observation)
        requests.append(request.SerializeToString())
    return requests


def play_requests(
    info: PolicyInfo, ref: policy_pb2.PolicyRef, rows: int, generator: np.random.Generator
) -> tuple[bytes, list[bytes]]:
    """Returns the serialized first PlayRequest of a session, and requests that may follow it in any order.

    Args:
        info: The policy.
        ref: The reference to the policy in the first request.
        rows: Number of environments.
        generator: Source of randomness.
    """
    going_on = encode_tensor(np.zeros(rows, np.bool_))
    opening = service_pb2.PlayRequest(policy=ref, spec_hash=info.spec_hash)
    later = []
    for observation in _observations(info, rows, generator):
        request = service_pb2.PlayRequest(terminated=going_on, truncated=going_on)
        write_value(request.observation, observation)
        write_tensor(request.reward, generator.normal(size=rows).astype(np.float32))
        later.append(request.SerializeToString())
        if not opening.HasField("observation"):
            opening.observation.CopyFrom(request.observation)
    return opening.SerializeToString(), later


def random_values(space: Space, rows: int, generator: np.random.Generator) -> Any:
    """Returns a batch of random values of a space, in the form of :func:`pgkeras.protocol.values.cast`.

    Numbers are uniform between two finite bounds, half-normal from a single bound, and standard normal without bounds.
    Texts consist of the policy's tokens.
    """
    if isinstance(space, Dict | Tuple):
        return {key: random_values(part, rows, generator) for key, part in parts(space).items()}
    if isinstance(space, Text):
        numbers = generator.integers(FIRST, FIRST + len(space.vocabulary), (rows, space.max_tokens))
        return decode(space, numbers)
    return _random_arrays(space, rows, generator)


def _random_arrays(space: ArraySpace, rows: int, generator: np.random.Generator) -> NDArray[Any]:
    if not isinstance(space, Box) or space.dtype.kind != "f":
        return draw_integers(space, rows, generator)
    low, high, shape = space.low, space.high, (rows, *space.shape)
    has_low, has_high = np.isfinite(low), np.isfinite(high)
    normal = generator.standard_normal(shape)
    values = np.where(has_low, np.where(has_low, low, 0) + np.abs(normal), normal)
    values = np.where(has_high & ~has_low, np.where(has_high, high, 0) - np.abs(normal), values)
    both = has_low & has_high
    share = generator.random(shape)
    # A weighted sum of the bounds, because the difference of huge bounds may overflow.
    between = np.where(both, low, 0) * (1 - share) + np.where(both, high, 0) * share
    values = np.where(both, between, values).astype(space.dtype)
    return np.asarray(np.clip(values, low.astype(space.dtype), high.astype(space.dtype)), space.dtype)


def _observations(info: PolicyInfo, rows: int, generator: np.random.Generator) -> list[Any]:
    space, layout = info.spec.observation_space, info.spec.layout
    one = random_values(space, rows, generator)
    count = max(1, min(_MAX_REQUESTS, _MAX_BYTES // (rows * math.prod(layout.shape) * layout.dtype.itemsize)))
    return [one, *(random_values(space, rows, generator) for _ in range(count - 1))]
