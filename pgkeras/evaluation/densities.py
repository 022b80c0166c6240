"""Probability densities of continuous actions, from the parameters that the act graph returns."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pgkeras.spaces.spec import DistributionKind

__all__ = ["centre_and_spread", "density"]

Array = NDArray[np.float64]


def density(
    kind: DistributionKind, parameters: Mapping[str, float], bounds: tuple[float, float], actions: Array
) -> Array:
    """Computes the density of one action component, which is 0 outside its bounds.

    Args:
        kind: A continuous family. See :mod:`pgkeras.policy.distributions` for the equations.
        parameters: The component's parameters: ``mean`` and ``stddev`` (of the normal before squashing), or ``a`` and
            ``b``.
        bounds: The component's lower and upper bound; may be infinite.
        actions: ``[N]``.
    """
    low, high = bounds
    actions = np.asarray(actions, np.float64)
    if kind is DistributionKind.DIAGONAL_GAUSSIAN or (np.isinf(low) and np.isinf(high)):
        return _normal(parameters, actions)
    inside = (actions > low) & (actions < high)
    there = actions[inside]
    result = np.zeros_like(actions)
    if kind is DistributionKind.KUMARASWAMY:
        a, b = parameters["a"], parameters["b"]
        x = (there - low) / (high - low)
        result[inside] = a * b * x ** (a - 1) * (1 - x**a) ** (b - 1) / (high - low)
    elif np.isfinite(low) and np.isfinite(high):
        y = (2 * there - low - high) / (high - low)
        result[inside] = _normal(parameters, np.arctanh(y)) / ((1 - y * y) * 0.5 * (high - low))
    else:  # low + softplus(u), or high - softplus(u)
        y = there - low if np.isfinite(low) else high - there
        result[inside] = _normal(parameters, y + np.log(-np.expm1(-y))) / -np.expm1(-y)
    return result


def centre_and_spread(
    kind: DistributionKind, parameters: Mapping[str, float], bounds: tuple[float, float]
) -> tuple[float, float, float]:
    """Returns the quantiles 0.5, 0.159 and 0.841 of one component.

    For a Gaussian, these are its mean, and its mean minus and plus one standard deviation.
    """
    low, high = bounds
    if kind is DistributionKind.KUMARASWAMY:
        a, b = parameters["a"], parameters["b"]
        quantiles = [low + (high - low) * (1 - (1 - q) ** (1 / b)) ** (1 / a) for q in (0.5, _LEFT, 1 - _LEFT)]
        return quantiles[0], quantiles[1], quantiles[2]
    mean, std = parameters["mean"], parameters["stddev"]
    values = np.array([mean, mean - std, mean + std])
    if kind is DistributionKind.SQUASHED_GAUSSIAN:
        if np.isfinite(low) and np.isfinite(high):
            values = 0.5 * (low + high) + 0.5 * (high - low) * np.tanh(values)
        elif np.isfinite(low) or np.isfinite(high):
            beyond = np.logaddexp(0, values)
            values = low + beyond if np.isfinite(low) else high - beyond
    return float(values[0]), float(values[1:].min()), float(values[1:].max())


_LEFT = 0.15865525393145707  # the standard normal distribution function at -1


def _normal(parameters: Mapping[str, float], x: Array) -> Array:
    mean, std = parameters["mean"], parameters["stddev"]
    return np.asarray(np.exp(-0.5 * ((x - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi)))
