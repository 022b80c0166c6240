"""The diagonal Gaussian distribution: independent normals, clipped to the bounds of the action space."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgkeras.backend import tf
from pgkeras.spaces import Box
from pgkeras.spaces.spec import DistributionKind

__all__ = ["DiagonalGaussian", "inner_bounds", "units"]

# A new network samples from about N(0, 1), which fits ranges of these half-widths with their centre as near to 0.
_NARROWEST, _WIDEST, _FARTHEST = 0.3, 10.0, 1.0
_UNBOUNDED = 1e12  # a bound beyond it is as good as none
_FINEST = 1e-3  # of a bound's size: in smaller units, float32 would round samples near it to few numbers


def inner_bounds(space: Box) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The space's bounds as numbers of float32 and of its own dtype, rounded inwards: the nearest may lie outside.

    Where none lies between two bounds, both are the one nearest to the lower.
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
    """The origin and the unit, for each component ``[D]``, in which a new network's outputs fit a space.

    A network begins with means near 0 and standard deviations near 1. Where that does not fit the range of a component,
    the origin is the centre of the range, and the unit is half its width. Where one bound is finite, the origin is at
    least one unit inside it.

    Returns:
        The origins and the units; 0 and 1 for components that need no others.
    """
    low, high = space.low.ravel(), space.high.ravel()
    from_below, from_above = low > -_UNBOUNDED, high < _UNBOUNDED
    with np.errstate(invalid="ignore", over="ignore"):
        centre, half = high / 2 + low / 2, high / 2 - low / 2
    fits = (np.abs(centre) <= np.minimum(half, _FARTHEST)) & (half >= _NARROWEST) & (half <= _WIDEST)
    # One after the other: bounded on both sides, from below, from above.
    kinds = [from_below & from_above, from_below, from_above]
    own = ~fits & (half > 0)
    above, below = np.maximum(1.0, _FINEST * low), np.maximum(1.0, -_FINEST * high)
    origins = [np.where(own, centre, 0.0), np.maximum(0.0, low + above), np.minimum(0.0, high - below)]
    return np.select(kinds, origins, 0.0), np.select(kinds, [np.where(own, half, 1.0), above, below], 1.0)


@dataclass(frozen=True)
class DiagonalGaussian:
    """Independent normals; the parameters are means and the log of standard deviations, flat; a sample is ``[B, D]``.

    Where the bounds do not fit N(0, 1), the parameters are in units of the range; see :func:`units`.

    The standard deviations do not depend on the state, as is usual for policy gradients on continuous control
    (Schulman et al. 2015, "Trust region policy optimization", appendix D).

    Args:
        space: The action space; D is the number of its elements.
    """

    space: Box

    kind = DistributionKind.DIAGONAL_GAUSSIAN
    transforms = True

    @property
    def parameter_size(self) -> int:
        """A mean and a log standard deviation per component."""
        return 2 * self.state_independent_size

    @property
    def state_independent_size(self) -> int:
        """The log standard deviations."""
        return int(self.space.low.size)

    def sample(self, parameters: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """``mean + std * noise`` for standard normal noise."""
        noise.shape.assert_has_rank(2)
        mean, log_std = self._split(parameters)
        return mean + tf.exp(log_std) * noise

    def mode(self, parameters: tf.Tensor) -> tf.Tensor:
        """The mean."""
        return self._split(parameters)[0]

    def log_prob(self, parameters: tf.Tensor, sample: tf.Tensor) -> tf.Tensor:
        """``sum_d -((x_d - mean_d) / std_d)**2 / 2 - ln std_d - ln(2 pi) / 2``."""
        sample.shape.assert_has_rank(2)
        mean, log_std = self._split(parameters)
        z = (sample - mean) * tf.exp(-log_std)
        return tf.reduce_sum(-0.5 * tf.square(z) - log_std - 0.5 * math.log(2 * math.pi), axis=-1)

    def entropy(self, parameters: tf.Tensor) -> tf.Tensor:
        """``sum_d ln std_d + ln(2 pi e) / 2``."""
        return tf.reduce_sum(self._split(parameters)[1] + 0.5 * math.log(2 * math.pi * math.e), axis=-1)

    def fisher(self, parameters: tf.Tensor, direction: tf.Tensor) -> tf.Tensor:
        """Times ``1 / std_d**2`` for means and 2 for log standard deviations, in units of the parameters."""
        _, log_std = tf.split(parameters, 2, axis=-1)
        of_mean, of_log_std = tf.split(direction, 2, axis=-1)
        return tf.concat([of_mean * tf.exp(-2.0 * log_std), 2.0 * of_log_std], axis=-1)

    def action(self, sample: tf.Tensor) -> tf.Tensor:
        """The sample, clipped to the space's bounds."""
        shaped = tf.reshape(sample, [-1, *self.space.shape])
        if np.isinf(self.space.low).all() and np.isinf(self.space.high).all():
            return shaped
        low, high = inner_bounds(self.space)
        return tf.clip_by_value(shaped, tf.cast(low, shaped.dtype), tf.cast(high, shaped.dtype))

    def named_parameters(self, parameters: tf.Tensor) -> dict[str, tf.Tensor]:
        """``mean`` and ``stddev``, each ``[B, *space.shape]``."""
        mean, log_std = self._split(parameters)
        shape = [-1, *self.space.shape]
        return {"mean": tf.reshape(mean, shape), "stddev": tf.reshape(tf.exp(log_std), shape)}

    def _units(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What the parameters are in units of; see :func:`units`."""
        return units(self.space)

    def _split(self, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Means and log standard deviations in the space's units; the parameters are in those of :meth:`_units`."""
        parameters.shape.assert_has_rank(2)
        mean, log_std = tf.split(parameters, 2, axis=-1)
        centre, half = self._units()
        if not centre.any() and (half == 1.0).all():
            return mean, log_std
        return (
            tf.cast(centre, mean.dtype) + tf.cast(half, mean.dtype) * mean,
            log_std + tf.cast(np.log(half), log_std.dtype),
        )
