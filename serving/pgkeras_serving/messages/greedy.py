"""Log-probability of the greedy action. The act graph returns only that of the sampled action."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.spaces import Box, MultiDiscrete
from pgkeras.spaces.spec import ActionPart, DistributionKind, PolicySpec

__all__ = ["greedy_log_prob"]


def greedy_log_prob(spec: PolicySpec, answer: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Computes the log-probability of a distribution's mode from its parameters: float32 ``[B]``.

    - Categorical: ``ln max_i p_i``. MultiCategorical: the sum over its components.
    - MultiBernoulli: ``sum_d ln max(p_d, 1 - p_d)``.
    - Diagonal Gaussian with D components, at its mean: ``-sum_d ln std_d - D/2 ln(2 pi)``.
    - Squashed Gaussian: the same minus ``sum_d ln |d action_d / d u_d|`` at the mean.
    - Kumaraswamy: the log-density at its peak.
    - Structured: the sum over its parts.

    Args:
        spec: The policy's specification.
        answer: The engine's outputs, with the parameters that ``spec.parameter_outputs`` names, each ``[B, ...]``.
    """
    parts = [_of_part(part, {name: answer[output] for name, output in part.outputs.items()}) for part in spec.parts]
    return np.asarray(sum(parts), np.float32)


def _of_part(part: ActionPart, answer: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    kind, space = part.kind, part.space
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
    elif kind is DistributionKind.KUMARASWAMY:
        assert isinstance(space, Box)
        a, b = (answer[name].reshape(rows, -1).astype(np.float64) for name in ("a", "b"))
        result = _kumaraswamy_peak(a, b).sum(axis=-1) - np.log(space.high - space.low).sum()
    else:
        stddev = answer["stddev"].reshape(rows, -1)
        result = -np.log(stddev).sum(axis=-1) - stddev.shape[1] / 2 * math.log(2 * math.pi)
        if kind is DistributionKind.SQUASHED_GAUSSIAN:
            assert isinstance(space, Box)
            result = result - _log_slope(answer["mean"].reshape(rows, -1), space.low.ravel(), space.high.ravel())
    return np.asarray(result)


def _kumaraswamy_peak(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Computes ``ln(a b) + (a - 1) ln x + (b - 1) ln(1 - x^a)`` at ``x^a = (a - 1) / (a b - 1)``, with 0 ln 0 = 0."""
    power = np.maximum(a * b - 1, 1e-300)
    tiny = np.finfo(np.float64).tiny
    below = (a - 1) / a * np.log(np.maximum((a - 1) / power, tiny))
    above = (b - 1) * np.log(np.maximum((b - 1) * a / power, tiny))
    return np.asarray(np.log(a * b) + below + above)


def _log_slope(u: NDArray[Any], low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """Computes ``sum_d ln |d action_d / d u_d|``: tanh for two finite bounds, softplus for one, identity for none."""
    size = np.abs(u.astype(np.float64))
    finite = np.isfinite(low) & np.isfinite(high)
    half = np.where(finite, np.where(finite, high, 1) - np.where(finite, low, -1), 2.0) / 2
    tanh = np.log(half) + 2 * (math.log(2) - size - np.log1p(np.exp(-2 * size)))
    softplus = -np.logaddexp(0, -u)
    unbounded = np.isinf(low) & np.isinf(high)
    return np.asarray(np.where(finite, tanh, np.where(unbounded, 0.0, softplus)).sum(axis=-1))
