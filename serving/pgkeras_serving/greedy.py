"""The log-probability of the greedy action, which the act graph leaves out: it gives that of the sampled one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.spaces import MultiDiscrete
from pgkeras.spec import DistributionKind, PolicySpec

__all__ = ["greedy_log_prob"]


def greedy_log_prob(spec: PolicySpec, answer: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """The log-probability of a distribution's mode, from its parameters: float32 ``[B]``.

    Categorical: ``ln max_i p_i``, and the sum of that over the components of a MultiCategorical. MultiBernoulli:
    ``sum_d ln max(p_d, 1 - p_d)``. Diagonal Gaussian, of D components, at its mean: ``-sum_d ln std_d - D/2 ln(2 pi)``.

    Args:
        spec: The policy's, with its distribution and action space.
        answer: Holds the parameters by the names in ``spec.distribution.parameters``, each ``[B, ...]``.
    """
    kind, space = spec.distribution, spec.action_space
    first = answer[kind.parameters[0]]
    rows = len(first)
    if kind is DistributionKind.CATEGORICAL:
        result = np.log(first.max(axis=-1))
    elif kind is DistributionKind.MULTI_CATEGORICAL:
        assert isinstance(space, MultiDiscrete)
        nvec = space.nvec.ravel()
        result = np.log(np.maximum.reduceat(first, np.cumsum(nvec) - nvec, axis=1)).sum(axis=-1)
    elif kind is DistributionKind.MULTI_BERNOULLI:
        flat = first.reshape(rows, -1)
        result = np.log(np.maximum(flat, 1 - flat)).sum(axis=-1)
    else:
        stddev = answer["stddev"].reshape(rows, -1)
        result = -np.log(stddev).sum(axis=-1) - stddev.shape[1] / 2 * math.log(2 * math.pi)
    return np.asarray(result, np.float32)
