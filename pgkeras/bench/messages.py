"""Ready requests with random observations of a policy's space."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.client import PolicyInfo
from pgkeras.spaces import Box, Discrete, MultiBinary, Space
from pgkeras.v1 import policy_pb2, service_pb2
from pgkeras.wire import encode_tensor, write_tensor

__all__ = ["act_requests", "play_requests", "random_values"]

# So many different ones that no cache helps, and so few bytes that images fit memory.
_MOST_REQUESTS = 256
_MOST_BYTES = 64 * 2**20


def act_requests(
    info: PolicyInfo, ref: policy_pb2.PolicyRef, rows: int | None, generator: np.random.Generator
) -> list[bytes]:
    """Serialized ActRequests.

    Args:
        info: The policy.
        ref: How requests name it.
        rows: Observations in a request; None for a single one without a batch axis.
        generator: Where the observations come from.
    """
    requests = []
    for observation in _observations(info, rows or 1, generator):
        request = service_pb2.ActRequest(policy=ref, spec_hash=info.spec_hash)
        write_tensor(request.observation.tensor, observation[0] if rows is None else observation)
        requests.append(request.SerializeToString())
    return requests


def play_requests(
    info: PolicyInfo, ref: policy_pb2.PolicyRef, rows: int, generator: np.random.Generator
) -> tuple[bytes, list[bytes]]:
    """The first PlayRequest of a session, and those that may follow it in any order, serialized.

    Args:
        info: The policy.
        ref: How the first request names it.
        rows: The number of environments.
        generator: Where observations and rewards come from.
    """
    going_on = encode_tensor(np.zeros(rows, np.bool_))
    first = service_pb2.PlayRequest(policy=ref, spec_hash=info.spec_hash)
    later = []
    for observation in _observations(info, rows, generator):
        request = service_pb2.PlayRequest(terminated=going_on, truncated=going_on)
        write_tensor(request.observation.tensor, observation)
        write_tensor(request.reward, generator.normal(size=rows).astype(np.float32))
        later.append(request.SerializeToString())
        if not first.HasField("observation"):
            first.observation.CopyFrom(request.observation)
    return first.SerializeToString(), later


def random_values(space: Space, rows: int, generator: np.random.Generator) -> NDArray[Any]:
    """Random values of a space, ``[rows, *space.shape]``.

    Uniform where they are bounded on both sides, a half-normal beyond a single bound, else standard normal.
    """
    shape = (rows, *space.shape)
    if isinstance(space, MultiBinary):
        return generator.integers(0, 2, shape).astype(space.dtype)
    if not isinstance(space, Box):
        count = space.n if isinstance(space, Discrete) else space.nvec
        return generator.integers(space.start, space.start + count, shape).astype(space.dtype)
    low, high = space.low, space.high
    if space.dtype.kind in "iu":
        return generator.integers(low.astype(space.dtype), high.astype(space.dtype), shape, space.dtype, endpoint=True)
    has_low, has_high = np.isfinite(low), np.isfinite(high)
    normal = generator.standard_normal(shape)
    values = np.where(has_low, np.where(has_low, low, 0) + np.abs(normal), normal)
    values = np.where(has_high & ~has_low, np.where(has_high, high, 0) - np.abs(normal), values)
    both = has_low & has_high
    share = generator.random(shape)
    # In two halves, since the distance of two huge bounds may be infinite.
    between = np.where(both, low, 0) * (1 - share) + np.where(both, high, 0) * share
    values = np.where(both, between, values).astype(space.dtype)
    return np.asarray(np.clip(values, low.astype(space.dtype), high.astype(space.dtype)), space.dtype)


def _observations(info: PolicyInfo, rows: int, generator: np.random.Generator) -> list[NDArray[Any]]:
    space = info.spec.observation_space
    one = random_values(space, rows, generator)
    count = max(1, min(_MOST_REQUESTS, _MOST_BYTES // max(1, one.nbytes)))
    return [one, *(random_values(space, rows, generator) for _ in range(count - 1))]
