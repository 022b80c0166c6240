"""The multivariate Bernoulli distribution: several independent bits."""

from __future__ import annotations

from dataclasses import dataclass

from pgkeras.backend import tf
from pgkeras.policy.distributions.stable import log_sigmoid
from pgkeras.spaces import MultiBinary
from pgkeras.spaces.spec import DistributionKind

__all__ = ["MultiBernoulli"]


@dataclass(frozen=True)
class MultiBernoulli:
    """Independent bits. The parameters are the log-odds of 1, and a sample is int64 ``[B, D]``.

    Args:
        space: The action space; D is the number of its elements.
    """

    space: MultiBinary

    kind = DistributionKind.MULTI_BERNOULLI
    state_independent_size = 0

    @property
    def parameter_size(self) -> int:
        """One log-odds per bit."""
        return self.space.size

    @property
    def transforms(self) -> bool:
        """Whether the action is not a vector."""
        return len(self.space.shape) != 1

    def sample(self, parameters: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """Computes each bit's inverse CDF at uniform noise u: 1 if ``P(0) <= u``, else 0.

        u is scaled by ``1 - 2^-23``, because a bit of probability 0 must not be drawn by rounding.
        """
        parameters.shape.assert_has_rank(2)
        noise.shape.assert_has_rank(2)
        return tf.cast(tf.sigmoid(-parameters) <= noise * (1.0 - 2.0**-23), tf.int64)

    def mode(self, parameters: tf.Tensor) -> tf.Tensor:
        """Returns 1 for bits with ``P(1) > P(0)``, else 0."""
        return tf.cast(parameters > 0, tf.int64)

    def log_prob(self, parameters: tf.Tensor, sample: tf.Tensor) -> tf.Tensor:
        """Sums ``ln sigmoid(l_d)`` over ones and ``ln sigmoid(-l_d)`` over zeros; finite for any log-odds l."""
        sample.shape.assert_has_rank(2)
        sign = tf.cast(2 * sample - 1, parameters.dtype)
        return tf.reduce_sum(log_sigmoid(sign * parameters), axis=-1)

    def entropy(self, parameters: tf.Tensor) -> tf.Tensor:
        """Computes ``-sum_d (p_d ln p_d + (1 - p_d) ln(1 - p_d))``."""
        p = tf.sigmoid(parameters)
        terms = p * log_sigmoid(parameters) + tf.sigmoid(-parameters) * log_sigmoid(-parameters)
        return -tf.reduce_sum(terms, axis=-1)

    def fisher(self, parameters: tf.Tensor, direction: tf.Tensor) -> tf.Tensor:
        """Multiplies each log-odds by ``p_d (1 - p_d)``."""
        return tf.sigmoid(parameters) * tf.sigmoid(-parameters) * direction

    def action(self, sample: tf.Tensor) -> tf.Tensor:
        """Returns the bits in the space's shape."""
        return tf.reshape(sample, [-1, *self.space.shape]) if self.transforms else sample

    def named_parameters(self, parameters: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the ``probabilities`` of 1, ``[B, *space.shape]``."""
        return {"probabilities": tf.reshape(tf.sigmoid(parameters), [-1, *self.space.shape])}
