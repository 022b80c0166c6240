"""The Kumaraswamy distribution: bounded and similar to a Beta distribution, but with a closed-form inverse CDF."""

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

# Parameters are clipped to this range, because results of more extreme ones would leave the range of float32.
_MIN_PARAMETER, _MAX_PARAMETER = -30.0, 1e6
_MIN_NOISE = 2.0**-24
_POINTS, _WEIGHTS = (np.polynomial.legendre.leggauss(32) + np.array([[1], [0]])) / 2  # on [0, 1]


@dataclass(frozen=True)
class Kumaraswamy:
    """Independent x in (0, 1) with the CDF ``F(x) = 1 - (1 - x^a)^b``, scaled to the bounds of the action space.

    See Kumaraswamy 1980, "A generalized probability density function for double-bounded random processes", Journal of
    Hydrology 46. The parameters are D numbers for a, then D for b: ``a = 1 + softplus(parameter)``, and b in the same
    way. With a and b above 1, every density has a single mode and is finite at the bounds, as in Chou et al. 2017,
    "Improving stochastic policy gradients in continuous control with deep reinforcement learning using the Beta
    distribution", section 4. Parameters of 0 give a broad density.

    The sample is the logit ``ln(x / (1 - x))``, which is more precise than x near the bounds. The log-probability and
    the entropy are those of the action.

    Args:
        space: The action space. In every component, the bounds must be finite and differ. D is the number of elements.
    """

    space: Box

    kind = DistributionKind.KUMARASWAMY
    state_independent_size = 0
    transforms = True

    @property
    def parameter_size(self) -> int:
        """Two parameters per component."""
        return 2 * int(self.space.low.size)

    def sample(self, parameters: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """Computes the inverse CDF at uniform noise u, ``x = (1 - (1 - u)^(1/b))^(1/a)``, as a logit.

        The noise is clipped to ``[2^-24, 1 - 2^-24]``, where 2^-24 is its resolution.
        """
        noise.shape.assert_has_rank(2)
        a_minus_1, b_minus_1 = self._split(parameters)
        u = tf.clip_by_value(noise, _MIN_NOISE, 1.0 - _MIN_NOISE)
        return _logit(-log1mexp(minus_log1m(u) / (1.0 + b_minus_1)) / (1.0 + a_minus_1))

    def mode(self, parameters: tf.Tensor) -> tf.Tensor:
        """Returns the logit of the mode ``x = ((a - 1) / (a b - 1))^(1/a)``."""
        a_minus_1, b_minus_1 = self._split(parameters)
        minus_log_x = tf.math.log(1.0 + b_minus_1 * (1.0 + a_minus_1) / a_minus_1) / (1.0 + a_minus_1)
        return _logit(tf.maximum(minus_log_x, _MIN_NOISE))

    def log_prob(self, parameters: tf.Tensor, sample: tf.Tensor) -> tf.Tensor:
        """Computes ``sum_d ln(a_d b_d) + (a_d - 1) ln x_d + (b_d - 1) ln(1 - x_d^a_d) - ln(high_d - low_d)``."""
        sample.shape.assert_has_rank(2)
        a_minus_1, b_minus_1 = self._split(parameters)
        a, b = 1.0 + a_minus_1, 1.0 + b_minus_1
        minus_log_x = softplus(-sample)
        density = tf.math.log(a) + tf.math.log(b) - a_minus_1 * minus_log_x + b_minus_1 * log1mexp(a * minus_log_x)
        return tf.reduce_sum(density - tf.cast(np.log(self._range), density.dtype), axis=-1)

    def entropy(self, parameters: tf.Tensor) -> tf.Tensor:
        """Computes ``sum_d 1 - 1/b_d + (1 - 1/a_d) H(b_d) - ln(a_d b_d) + ln(high_d - low_d)``, H the harmonic number.

        Derivation: x^a has the distribution Beta(1, b), with ``E[ln x^a] = -H(b)``, and 1 - x^a has the distribution
        Beta(b, 1), with ``E[ln(1 - x^a)] = -1/b``.
        """
        a_minus_1, b_minus_1 = self._split(parameters)
        a, b = 1.0 + a_minus_1, 1.0 + b_minus_1
        entropy = b_minus_1 / b + a_minus_1 / a * harmonic(b) - tf.math.log(a) - tf.math.log(b)
        return tf.reduce_sum(entropy + tf.cast(np.log(self._range), entropy.dtype), axis=-1)

    def fisher(self, parameters: tf.Tensor, direction: tf.Tensor) -> tf.Tensor:
        """Multiplies by the 2x2 matrix of each component.

        With respect to a and b, its entries are ``I_aa = (1 + (b - 1) E[y ln(y)^2 / (1 - y)^2]) / a^2``, ``I_bb = 1 /
        b^2`` and ``I_ab = E[y ln y / (1 - y)] / a``, where ``y = x^a``. The chain rule converts them to the parameters.
        The expectations are computed by Gauss-Legendre quadrature over the inverse CDF, with an error below 0.001.
        """
        a_minus_1, b_minus_1 = self._split(parameters)
        a, b = 1.0 + a_minus_1, 1.0 + b_minus_1
        points, weights = (tf.constant(values[:, np.newaxis, np.newaxis], b.dtype) for values in (_POINTS, _WEIGHTS))
        minus_log_rest = minus_log1m(points) / b  # -ln(1 - y)
        log_y = log1mexp(minus_log_rest)
        odds = tf.exp(log_y + minus_log_rest)
        i_ab = tf.reduce_sum(weights * odds * log_y, axis=0) / a
        expectation = tf.reduce_sum(weights * odds * tf.exp(minus_log_rest) * tf.square(log_y), axis=0)
        slope_a, slope_b = tf.split(tf.sigmoid(parameters), 2, axis=-1)  # derivatives of a and b by the parameters
        d_a, d_b = tf.split(direction, 2, axis=-1)
        d_a, d_b = slope_a * d_a, slope_b * d_b
        product_a = (1.0 + b_minus_1 * expectation) / tf.square(a) * d_a + i_ab * d_b
        product_b = i_ab * d_a + d_b / tf.square(b)
        return tf.concat([slope_a * product_a, slope_b * product_b], axis=-1)

    def action(self, sample: tf.Tensor) -> tf.Tensor:
        """Returns ``low + (high - low) x`` in the space's shape."""
        logit = tf.reshape(sample, [-1, *self.space.shape])
        half = 0.5 * self._range.reshape(self.space.shape)
        # Computed from the center of the range, with x - 1/2 = tanh(logit / 2) / 2.
        action = tf.cast(self.space.low + half, logit.dtype) + tf.cast(half, logit.dtype) * tf.tanh(0.5 * logit)
        return tf.clip_by_value(action, *(tf.cast(bound, logit.dtype) for bound in inner_bounds(self.space)))

    def named_parameters(self, parameters: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns ``a`` and ``b``, each ``[B, *space.shape]``."""
        shape = [-1, *self.space.shape]
        a_minus_1, b_minus_1 = self._split(parameters)
        return {"a": tf.reshape(1.0 + a_minus_1, shape), "b": tf.reshape(1.0 + b_minus_1, shape)}

    @cached_property
    def _range(self) -> NDArray[np.float64]:
        return np.asarray((self.space.high - self.space.low).ravel())

    def _split(self, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns ``a - 1`` and ``b - 1``, which are positive."""
        parameters.shape.assert_has_rank(2)
        a_minus_1, b_minus_1 = tf.split(
            softplus(tf.clip_by_value(parameters, _MIN_PARAMETER, _MAX_PARAMETER)), 2, axis=-1
        )
        return a_minus_1, b_minus_1


def _logit(minus_log_x: tf.Tensor) -> tf.Tensor:
    """Computes ``ln(x / (1 - x))`` from ``-ln x``."""
    return -minus_log_x - log1mexp(minus_log_x)
