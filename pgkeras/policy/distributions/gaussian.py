"""The diagonal Gaussian distribution: independent normal components, clipped to the bounds of the action space."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgkeras.backend import tf
from pgkeras.spaces import Box
from pgkeras.spaces.spec import DistributionKind

__all__ = ["DiagonalGaussian", "inner_bounds", "units"]

# A new network samples from about N(0, 1). This fits ranges with a half-width between the first two numbers, and with a
# center whose magnitude is at most the third.
_MIN_HALF_WIDTH, _MAX_HALF_WIDTH, _MAX_CENTER = 0.3, 10.0, 1.0
_UNBOUNDED = 1e12  # larger bounds are treated as infinite
_MIN_UNIT = 1e-3  # relative to a bound, because float32 has few numbers near the bound in smaller units


def inner_bounds(space: Box) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns the space's bounds rounded inwards to float32, or to float16 for a float16 space.

    They are rounded inwards because the nearest number may be outside the space. If there is no such number between two
    bounds, both results are the number nearest to the lower bound.
    """
    dtype = np.dtype(np.float16 if space.dtype == np.float16 else np.float32)
    with np.errstate(over="ignore"):
        low, high = space.low.astype(dtype), space.high.astype(dtype)
    nearest = low
    low = np.where(low < space.low, np.nextafter(low, dtype.type(np.inf)), low)
    high = np.where(high > space.high, np.nextafter(high, dtype.type(-np.inf)), high)
    crossed = low > high
    low, high = np.where(crossed, nearest, low), np.where(crossed, nearest, high)
    return low.astype(np.float32), high.astype(np.float32)


def units(space: Box) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns origins and units ``[D]`` that map a new network's outputs to the range of each component.

    The outputs of a new network have means near 0 and standard deviations near 1. If this does not fit the range of a
    component, the origin is the center of the range, and the unit is half its width. If only one bound is finite, the
    origin is at least one unit inside it.

    Returns:
        The origins and the units, 0 and 1 for components that the outputs fit.
    """
    low, high = space.low.ravel(), space.high.ravel()
    has_low, has_high = low > -_UNBOUNDED, high < _UNBOUNDED
    with np.errstate(invalid="ignore", over="ignore"):
        center, half = high / 2 + low / 2, high / 2 - low / 2
    fits = (np.abs(center) <= np.minimum(half, _MAX_CENTER)) & (half >= _MIN_HALF_WIDTH) & (half <= _MAX_HALF_WIDTH)
    # np.select takes the first condition that is true: both bounds, lower bound only, upper bound only.
    conditions = [has_low & has_high, has_low, has_high]
    adapts = ~fits & (half > 0)
    low_unit, high_unit = np.maximum(1.0, _MIN_UNIT * low), np.maximum(1.0, -_MIN_UNIT * high)
    origins = [np.where(adapts, center, 0.0), np.maximum(0.0, low + low_unit), np.minimum(0.0, high - high_unit)]
    scales = [np.where(adapts, half, 1.0), low_unit, high_unit]
    return np.select(conditions, origins, 0.0), np.select(conditions, scales, 1.0)


@dataclass(frozen=True)
class DiagonalGaussian:
    """Independent normal components. The parameters are D means and D log standard deviations; a sample is ``[B, D]``.

    If N(0, 1) does not fit the bounds, the parameters are relative to the range; see :func:`units`.

    The standard deviations do not depend on the state, as is usual for policy gradients in continuous control (Schulman
    et al. 2015, "Trust region policy optimization", appendix D).

    Args:
        space: The action space; D is the number of its elements.
    """

    space: Box

    kind = DistributionKind.DIAGONAL_GAUSSIAN
    transforms = True

    @property
    def parameter_size(self) -> int:
        """One mean and one log standard deviation per component."""
        return 2 * self.state_independent_size

    @property
    def state_independent_size(self) -> int:
        """The log standard deviations."""
        return int(self.space.low.size)

    def sample(self, parameters: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """Returns ``mean + std * noise`` for standard normal noise."""
        noise.shape.assert_has_rank(2)
        mean, log_std = self._split(parameters)
        return mean + tf.exp(log_std) * noise

    def mode(self, parameters: tf.Tensor) -> tf.Tensor:
        """Returns the mean."""
        return self._split(parameters)[0]

    def log_prob(self, parameters: tf.Tensor, sample: tf.Tensor) -> tf.Tensor:
        """Computes ``sum_d -((x_d - mean_d) / std_d)**2 / 2 - ln std_d - ln(2 pi) / 2``."""
        sample.shape.assert_has_rank(2)
        mean, log_std = self._split(parameters)
        z = (sample - mean) * tf.exp(-log_std)
        return tf.reduce_sum(-0.5 * tf.square(z) - log_std - 0.5 * math.log(2 * math.pi), axis=-1)

    def entropy(self, parameters: tf.Tensor) -> tf.Tensor:
        """Computes ``sum_d ln std_d + ln(2 pi e) / 2``."""
        return tf.reduce_sum(self._split(parameters)[1] + 0.5 * math.log(2 * math.pi * math.e), axis=-1)

    def fisher(self, parameters: tf.Tensor, direction: tf.Tensor) -> tf.Tensor:
        """Multiplies means by ``1 / std_d**2`` and log standard deviations by 2, in the units of the parameters."""
        _, log_std = tf.split(parameters, 2, axis=-1)
        d_mean, d_log_std = tf.split(direction, 2, axis=-1)
        return tf.concat([d_mean * tf.exp(-2.0 * log_std), 2.0 * d_log_std], axis=-1)

    def action(self, sample: tf.Tensor) -> tf.Tensor:
        """Returns the sample, clipped to the space's bounds."""
        shaped = tf.reshape(sample, [-1, *self.space.shape])
        if np.isinf(self.space.low).all() and np.isinf(self.space.high).all():
            return shaped
        low, high = inner_bounds(self.space)
        return tf.clip_by_value(shaped, tf.cast(low, shaped.dtype), tf.cast(high, shaped.dtype))

    def named_parameters(self, parameters: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns ``mean`` and ``stddev``, each ``[B, *space.shape]``."""
        mean, log_std = self._split(parameters)
        shape = [-1, *self.space.shape]
        return {"mean": tf.reshape(mean, shape), "stddev": tf.reshape(tf.exp(log_std), shape)}

    def _units(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns the origins and units of the parameters; see :func:`units`."""
        return units(self.space)

    def _split(self, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Converts parameters in :meth:`_units` to means and log standard deviations in the space's units."""
        parameters.shape.assert_has_rank(2)
        mean, log_std = tf.split(parameters, 2, axis=-1)
        origin, unit = self._units()
        if not origin.any() and (unit == 1.0).all():
            return mean, log_std
        return (
            tf.cast(origin, mean.dtype) + tf.cast(unit, mean.dtype) * mean,
            log_std + tf.cast(np.log(unit), log_std.dtype),
        )
