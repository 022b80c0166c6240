"""The multivariate Bernoulli distribution: several bits at once."""

from __future__ import annotations

from dataclasses import dataclass

from pgkeras.backend import tf
from pgkeras.policy.distributions.stable import log_sigmoid
from pgkeras.spaces import MultiBinary
from pgkeras.spaces.spec import DistributionKind

__all__ = ["MultiBernoulli"]


@dataclass(frozen=True)
class MultiBernoulli:
    """Independent bits; the parameters are the log-odds of 1, and a sample is the bits ``[B, D]`` of type int64.

    Args:
        space: The action space; D is the number of its elements.
    """

    space: MultiBinary

    kind = DistributionKind.MULTI_BERNOULLI
    state_independent_size = 0

    @property
    def parameter_size(self) -> int:
        """The log-odds of every bit."""
        return self.space.size

    @property
    def transforms(self) -> bool:
        """Whether the action is anything but a vector."""
        return len(self.space.shape) != 1

    def sample(self, parameters: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """The inverse distribution function of every bit at uniform noise u: 1 where F(0) = P(0) <= u.

        Scaling u to stay below 1, by one unit in the last place, keeps a bit of probability 0 from being drawn.
        """
        parameters.shape.assert_has_rank(2)
        noise.shape.assert_has_rank(2)
        return tf.cast(tf.sigmoid(-parameters) <= noise * (1.0 - 2.0**-23), tf.int64)

    def mode(self, parameters: tf.Tensor) -> tf.Tensor:
        """1 where it is more probable than 0."""
        return tf.cast(parameters > 0, tf.int64)

    def log_prob(self, parameters: tf.Tensor, sample: tf.Tensor) -> tf.Tensor:
        """``sum_d ln sigmoid(l_d)`` for ones, ``ln sigmoid(-l_d)`` for zeros; finite for any log-odds l."""
        sample.shape.assert_has_rank(2)
        sign = tf.cast(2 * sample - 1, parameters.dtype)
        return tf.reduce_sum(log_sigmoid(sign * parameters), axis=-1)

    def entropy(self, parameters: tf.Tensor) -> tf.Tensor:
        """``-sum_d (p_d ln p_d + (1 - p_d) ln(1 - p_d))``."""
        p = tf.sigmoid(parameters)
        terms = p * log_sigmoid(parameters) + tf.sigmoid(-parameters) * log_sigmoid(-parameters)
        return -tf.reduce_sum(terms, axis=-1)

    def fisher(self, parameters: tf.Tensor, direction: tf.Tensor) -> tf.Tensor:
        """Times ``p_d (1 - p_d)``."""
        return tf.sigmoid(parameters) * tf.sigmoid(-parameters) * direction

    def action(self, sample: tf.Tensor) -> tf.Tensor:
        """The bits, of the space's shape."""
        return tf.reshape(sample, [-1, *self.space.shape]) if self.transforms else sample

    def named_parameters(self, parameters: tf.Tensor) -> dict[str, tf.Tensor]:
        """``probabilities`` of 1, ``[B, *space.shape]``."""
        return {"probabilities": tf.reshape(tf.sigmoid(parameters), [-1, *self.space.shape])}
