"""The squashed Gaussian distribution: normals, mapped smoothly into the bounds of the action space."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pgkeras.backend import tf
from pgkeras.policy.distributions.gaussian import DiagonalGaussian, inner_bounds
from pgkeras.policy.distributions.stable import log_sigmoid, softplus
from pgkeras.spaces.spec import DistributionKind

__all__ = ["SquashedGaussian"]

# Twelve points on either side of 0, within five standard deviations of the mean.
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(12)
_REACH = 5.0


@dataclass(frozen=True)
class SquashedGaussian(DiagonalGaussian):
    """Independent normals u, of which every action component is a smooth, rising or falling function.

    That is ``centre + half * tanh(u)`` where both bounds are finite, with the bounds' mean and half their distance;
    ``low + softplus(u)`` or ``high - softplus(u)`` where one is; and u where none is. The sample is u, so that nothing
    is lost where the action is near a bound; log-probability and entropy are the action's (Haarnoja et al. 2018, "Soft
    actor-critic: off-policy maximum entropy deep reinforcement learning with a stochastic actor", appendix C).

    The mode is the function of the mean, as is usual: it is the median of the actions, not their densest point.

    Args:
        space: The action space; its bounds differ from each other in every component.
    """

    kind = DistributionKind.SQUASHED_GAUSSIAN

    def log_prob(self, parameters: tf.Tensor, sample: tf.Tensor) -> tf.Tensor:
        """``ln N(u; mean, std) - sum_d ln |d action_d / d u_d|``."""
        return super().log_prob(parameters, sample) - tf.reduce_sum(self._log_slope(sample), axis=-1)

    def entropy(self, parameters: tf.Tensor) -> tf.Tensor:
        """The normals' entropy plus the mean of ``ln |d action_d / d u_d|``, by Gauss-Legendre quadrature.

        There is no closed form. ``ln(1 - tanh(u)^2)`` is nearly ``-2 |u|``, and no quadrature follows a bend like that
        at 0. The integral is therefore taken in two parts, below 0 and above. For standard deviations up to e^2, the
        error per component is below 6e-4 nats where the mean is within three standard deviations of 0, and below 1.3e-3
        elsewhere.
        """
        entropy = super().entropy(parameters)
        if self._unbounded.all():
            return entropy
        mean, log_std = self._split(parameters)
        std = tf.exp(log_std)
        bend = tf.clip_by_value(-mean / std, -_REACH, _REACH)
        points, weights = [tf.constant(a[:, None, None], mean.dtype) for a in (_POINTS, _WEIGHTS)]
        total = mass = 0.0
        for left, right in ((-_REACH, bend), (bend, _REACH)):
            half = 0.5 * (right - left)
            z = 0.5 * (left + right) + half * points  # [points, B, D]
            weight = weights * half * tf.exp(-0.5 * tf.square(z))
            total += tf.reduce_sum(weight * self._log_slope(mean + std * z), axis=0)
            mass += tf.reduce_sum(weight, axis=0)
        return entropy + tf.reduce_sum(total / mass, axis=-1)

    def action(self, sample: tf.Tensor) -> tf.Tensor:
        """The function of the sample, of the space's shape."""
        u = tf.reshape(sample, [-1, *self.space.shape])
        if self._unbounded.all():
            return u
        action = u
        low, high = self.space.low, self.space.high
        shape = self.space.shape
        if self._half_bounded.any():
            finite = np.where(np.isfinite(low), low, np.where(np.isfinite(high), high, 0.0))
            sign = np.where(np.isfinite(low), 1.0, -1.0)
            beyond = tf.cast(finite, u.dtype) + tf.cast(sign, u.dtype) * softplus(u)
            action = tf.where(self._half_bounded.reshape(shape), beyond, action)
        if self._bounded.any():
            bounded = self._bounded.reshape(shape)
            centre = np.where(bounded, low + 0.5 * self._range.reshape(shape), 0.0)
            between = tf.cast(centre, u.dtype) + tf.cast(0.5 * self._range.reshape(shape), u.dtype) * tf.tanh(u)
            action = tf.where(bounded, between, action)
        return tf.clip_by_value(action, *(tf.cast(bound, u.dtype) for bound in inner_bounds(self.space)))

    def _units(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """None: u is a plain number, and :meth:`action` alone puts it into the space's units."""
        size = self.space.low.size
        return np.zeros(size), np.ones(size)

    @cached_property
    def _bounded(self) -> NDArray[np.bool_]:
        return np.asarray(np.isfinite(self.space.low) & np.isfinite(self.space.high)).ravel()

    @cached_property
    def _unbounded(self) -> NDArray[np.bool_]:
        return np.asarray(np.isinf(self.space.low) & np.isinf(self.space.high)).ravel()

    @property
    def _half_bounded(self) -> NDArray[np.bool_]:
        return np.asarray(~self._bounded & ~self._unbounded)

    @cached_property
    def _range(self) -> NDArray[np.float64]:
        """The distance between the bounds where both are finite, else 1."""
        return np.where(self._bounded, self.space.high.ravel() - self.space.low.ravel(), 1.0)

    def _log_slope(self, u: tf.Tensor) -> tf.Tensor:
        """``ln |d action / d u|``, of the shape ``[..., D]`` of u."""
        slope = tf.zeros_like(u)
        if self._half_bounded.any():
            slope = tf.where(self._half_bounded, log_sigmoid(u), slope)
        if self._bounded.any():
            # ln(1 - tanh(u)^2), whose digits tanh would lose.
            size = tf.abs(u)
            log_derivative = 2.0 * (math.log(2) - size - tf.math.log1p(tf.exp(-2.0 * size)))
            slope = tf.where(self._bounded, tf.cast(np.log(0.5 * self._range), u.dtype) + log_derivative, slope)
        return slope
