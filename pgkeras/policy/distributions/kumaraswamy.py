"""The Kumaraswamy distribution: between two bounds like a Beta, but with an inverse distribution function."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pgkeras.backend import tf
from pgkeras.policy.distributions.gaussian import inner_bounds
from pgkeras.policy.distributions.stable import harmonic, log1mexp, minus_log1m, softplus
from pgkeras.spaces import Box
from pgkeras.spaces.spec import DistributionKind

__all__ = ["Kumaraswamy"]

# Beyond these, 1 + softplus is 1 or itself, and what follows would run out of float32's range.
_LEAST_PARAMETER, _GREATEST_PARAMETER = -30.0, 1e6
_LEAST_NOISE = 2.0**-24
_POINTS, _WEIGHTS = (np.polynomial.legendre.leggauss(32) + np.array([[1], [0]])) / 2  # on [0, 1]


@dataclass(frozen=True)
class Kumaraswamy:
    """Independent x in (0, 1) with ``P(x' <= x) = 1 - (1 - x^a)^b``, scaled to the bounds of the action space.

    (Kumaraswamy 1980, "A generalized probability density function for double-bounded random processes", Journal of
    Hydrology 46.) The parameters are those of a, then those of b: ``a = 1 + softplus(parameter)``, and likewise b, so
    that every density has one peak and none is infinite at a bound (as Chou et al. 2017, "Improving stochastic policy
    gradients in continuous control with deep reinforcement learning using the Beta distribution", section 4), and
    parameters of 0 give a broad hump.

    The sample is ``ln(x / (1 - x))``, which keeps its digits near either bound, where x would lose them; the
    log-probability and the entropy are the action's.

    Args:
        space: The action space, of finite bounds that differ in every component; D is the number of its elements.
    """

    space: Box

    kind = DistributionKind.KUMARASWAMY
    state_independent_size = 0
    transforms = True

    @property
    def parameter_size(self) -> int:
        """Two for every component."""
        return 2 * int(self.space.low.size)

    def sample(self, parameters: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """The inverse distribution function at uniform noise u: ``x = (1 - (1 - u)^(1/b))^(1/a)``, as a logit.

        The noise is kept off 0 and 1 by its own grain, 2^-24.
        """
        noise.shape.assert_has_rank(2)
        a_less_1, b_less_1 = self._split(parameters)
        u = tf.clip_by_value(noise, _LEAST_NOISE, 1.0 - _LEAST_NOISE)
        return _logit(-log1mexp(minus_log1m(u) / (1.0 + b_less_1)) / (1.0 + a_less_1))

    def mode(self, parameters: tf.Tensor) -> tf.Tensor:
        """The logit of the densest x: ``((a - 1) / (a b - 1))^(1/a)``."""
        a_less_1, b_less_1 = self._split(parameters)
        minus_log_x = tf.math.log(1.0 + b_less_1 * (1.0 + a_less_1) / a_less_1) / (1.0 + a_less_1)
        return _logit(tf.maximum(minus_log_x, _LEAST_NOISE))

    def log_prob(self, parameters: tf.Tensor, sample: tf.Tensor) -> tf.Tensor:
        """``sum_d ln(a_d b_d) + (a_d - 1) ln x_d + (b_d - 1) ln(1 - x_d^a_d) - ln(high_d - low_d)``."""
        sample.shape.assert_has_rank(2)
        a_less_1, b_less_1 = self._split(parameters)
        a, b = 1.0 + a_less_1, 1.0 + b_less_1
        minus_log_x = softplus(-sample)
        density = tf.math.log(a) + tf.math.log(b) - a_less_1 * minus_log_x + b_less_1 * log1mexp(a * minus_log_x)
        return tf.reduce_sum(density - tf.cast(np.log(self._range), density.dtype), axis=-1)

    def entropy(self, parameters: tf.Tensor) -> tf.Tensor:
        """``sum_d 1 - 1/b_d + (1 - 1/a_d) H(b_d) - ln(a_d b_d) + ln(high_d - low_d)``, H the harmonic numbers.

        For x^a is Beta(1, b), whose mean logarithm is -H(b), and 1 - x^a is Beta(b, 1), whose mean logarithm is -1/b.
        """
        a_less_1, b_less_1 = self._split(parameters)
        a, b = 1.0 + a_less_1, 1.0 + b_less_1
        entropy = b_less_1 / b + a_less_1 / a * harmonic(b) - tf.math.log(a) - tf.math.log(b)
        return tf.reduce_sum(entropy + tf.cast(np.log(self._range), entropy.dtype), axis=-1)

    def fisher(self, parameters: tf.Tensor, direction: tf.Tensor) -> tf.Tensor:
        """``(1 + (b - 1) E[y ln(y)^2 / (1 - y)^2]) / a^2`` of a, ``1 / b^2`` of b, ``E[y ln y / (1 - y)] / a`` of both.

        The chain rule takes that from a and b to the parameters. The expectations, over ``y = x^a``, are computed by
        Gauss-Legendre quadrature over the inverse distribution function, to within a thousandth.
        """
        a_less_1, b_less_1 = self._split(parameters)
        a, b = 1.0 + a_less_1, 1.0 + b_less_1
        points, weights = (tf.constant(values[:, np.newaxis, np.newaxis], b.dtype) for values in (_POINTS, _WEIGHTS))
        minus_log_rest = minus_log1m(points) / b  # -ln(1 - y)
        log_y = log1mexp(minus_log_rest)
        odds = tf.exp(log_y + minus_log_rest)
        mixed = tf.reduce_sum(weights * odds * log_y, axis=0) / a
        of_a = tf.reduce_sum(weights * odds * tf.exp(minus_log_rest) * tf.square(log_y), axis=0)
        slope_a, slope_b = tf.split(tf.sigmoid(parameters), 2, axis=-1)  # of a and b by the parameters
        d_a, d_b = tf.split(direction, 2, axis=-1)
        d_a, d_b = slope_a * d_a, slope_b * d_b
        by_a = (1.0 + b_less_1 * of_a) / tf.square(a) * d_a + mixed * d_b
        by_b = mixed * d_a + d_b / tf.square(b)
        return tf.concat([slope_a * by_a, slope_b * by_b], axis=-1)

    def action(self, sample: tf.Tensor) -> tf.Tensor:
        """``low + (high - low) x``, of the space's shape."""
        logit = tf.reshape(sample, [-1, *self.space.shape])
        half = 0.5 * self._range.reshape(self.space.shape)
        # From the centre outwards: x - 1/2 is tanh(logit / 2) / 2.
        action = tf.cast(self.space.low + half, logit.dtype) + tf.cast(half, logit.dtype) * tf.tanh(0.5 * logit)
        return tf.clip_by_value(action, *(tf.cast(bound, logit.dtype) for bound in inner_bounds(self.space)))

    def named_parameters(self, parameters: tf.Tensor) -> dict[str, tf.Tensor]:
        """``a`` and ``b``, each ``[B, *space.shape]``."""
        shape = [-1, *self.space.shape]
        a_less_1, b_less_1 = self._split(parameters)
        return {"a": tf.reshape(1.0 + a_less_1, shape), "b": tf.reshape(1.0 + b_less_1, shape)}

    @cached_property
    def _range(self) -> NDArray[np.float64]:
        return np.asarray((self.space.high - self.space.low).ravel())

    def _split(self, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """``a - 1`` and ``b - 1``, which are positive."""
        parameters.shape.assert_has_rank(2)
        a_less_1, b_less_1 = tf.split(
            softplus(tf.clip_by_value(parameters, _LEAST_PARAMETER, _GREATEST_PARAMETER)), 2, axis=-1
        )
        return a_less_1, b_less_1


def _logit(minus_log_x: tf.Tensor) -> tf.Tensor:
    """``ln(x / (1 - x))`` from ``-ln x``."""
    return -minus_log_x - log1mexp(minus_log_x)
