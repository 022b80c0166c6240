"""Action distributions: pure functions of (parameters, noise), in TensorFlow.

A network puts out ``parameters`` ``[B, parameter_size]``; a distribution says what they mean. Randomness is an input:
``sample`` maps noise to a sample by the inverse of the distribution function (or, for a normal, by scaling), so that
the same (parameters, noise) gives the same sample wherever it is computed.

A *sample* is what log-probabilities are taken of; an *action* is what the environment is given. For a Gaussian the
action is the sample clipped to the space's bounds, and the log-probability is the unclipped sample's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pgkeras.backend import tf
from pgkeras.errors import UnsupportedSpaceError
from pgkeras.spaces import Box, Discrete, Space
from pgkeras.spec import DistributionKind

__all__ = ["Categorical", "DiagonalGaussian", "Distribution", "for_action_space"]


class Distribution(Protocol):
    """What a policy needs of its action distribution."""

    @property
    def kind(self) -> DistributionKind:
        """The family."""

    @property
    def parameter_size(self) -> int:
        """How many numbers per observation the network puts out."""

    @property
    def state_independent_size(self) -> int:
        """How many of them, the last ones, are variables of their own that do not depend on the observation."""

    @property
    def transforms(self) -> bool:
        """Whether actions differ from samples."""

    def sample(self, parameters: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """Samples ``[B, ...]`` from parameters ``[B, parameter_size]`` and noise ``[B, noise_size]``."""

    def mode(self, parameters: tf.Tensor) -> tf.Tensor:
        """The sample ``[B, ...]`` of highest probability or density."""

    def log_prob(self, parameters: tf.Tensor, sample: tf.Tensor) -> tf.Tensor:
        """Ln P(sample), or its log-density: ``[B]``."""

    def entropy(self, parameters: tf.Tensor) -> tf.Tensor:
        """Entropy ``[B]`` in nats."""

    def action(self, sample: tf.Tensor) -> tf.Tensor:
        """What the environment is given for a sample, of the action space's shape."""

    def named_parameters(self, parameters: tf.Tensor) -> dict[str, tf.Tensor]:
        """The parameters as people know them, by the names in ``kind.parameters``."""


def for_action_space(space: Space) -> Distribution:
    """The distribution for an action space: categorical for Discrete, diagonal Gaussian for Box.

    Raises:
        UnsupportedSpaceError: There is none for that space.
    """
    if isinstance(space, Discrete):
        return Categorical(space.n, space.start)
    if space.dtype.kind == "f" and space.low.size:
        return DiagonalGaussian(space)
    raise UnsupportedSpaceError(
        f"action space {space} is not supported: a Box of actions must have a float dtype and at least one element"
    )


@dataclass(frozen=True)
class Categorical:
    """One of ``n`` actions; the parameters are logits, and a sample is an index ``[B]`` of type int64.

    Args:
        n: Number of actions.
        start: The action that index 0 stands for.
    """

    n: int
    start: int = 0

    kind = DistributionKind.CATEGORICAL
    state_independent_size = 0

    @property
    def parameter_size(self) -> int:
        """One logit per action."""
        return self.n

    @property
    def transforms(self) -> bool:
        """Whether the actions begin elsewhere than at 0."""
        return self.start != 0

    def sample(self, parameters: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """The inverse distribution function at uniform noise u: the number of indices i with F(i) <= u.

        In float32 the last F(i) is near 1 but not 1. Scaling u to stay below it, by one unit in the last place, keeps
        u = 1 - eps from falling off the end and an action of probability 0 from being drawn.
        """
        parameters.shape.assert_has_rank(2)
        noise.shape.assert_has_rank(2)
        cumulative = tf.cumsum(tf.nn.softmax(parameters), axis=-1)
        below = cumulative <= noise * (cumulative[:, -1:] * (1.0 - 2.0**-23))
        return tf.reduce_sum(tf.cast(below, tf.int64), axis=-1)

    def mode(self, parameters: tf.Tensor) -> tf.Tensor:
        """The index of the largest logit, the first of equals."""
        return tf.argmax(parameters, axis=-1, output_type=tf.int64)

    def log_prob(self, parameters: tf.Tensor, sample: tf.Tensor) -> tf.Tensor:
        """``log_softmax(logits)[sample]``, which stays finite where log(softmax) would not."""
        sample.shape.assert_has_rank(1)
        return tf.gather(tf.nn.log_softmax(parameters), sample, batch_dims=1)

    def entropy(self, parameters: tf.Tensor) -> tf.Tensor:
        """``-sum_i p_i ln p_i``."""
        log_p = tf.nn.log_softmax(parameters)
        return -tf.reduce_sum(tf.exp(log_p) * log_p, axis=-1)

    def action(self, sample: tf.Tensor) -> tf.Tensor:
        """``start + index``."""
        return sample + self.start if self.start else sample

    def named_parameters(self, parameters: tf.Tensor) -> dict[str, tf.Tensor]:
        """``probabilities`` ``[B, n]``."""
        return {"probabilities": tf.nn.softmax(parameters)}


@dataclass(frozen=True)
class DiagonalGaussian:
    """Independent normals; the parameters are means and the log of standard deviations, flat; a sample is ``[B, D]``.

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

    def action(self, sample: tf.Tensor) -> tf.Tensor:
        """The sample, clipped to the space's bounds."""
        shaped = tf.reshape(sample, [-1, *self.space.shape])
        if np.isinf(self.space.low).all() and np.isinf(self.space.high).all():
            return shaped
        # Rounded inwards, since a float32 may lie outside a bound given in float64.
        low, high = (bound.astype(np.float32) for bound in (self.space.low, self.space.high))
        low = np.where(low < self.space.low, np.nextafter(low, np.float32(np.inf)), low)
        high = np.where(high > self.space.high, np.nextafter(high, np.float32(-np.inf)), high)
        return tf.clip_by_value(shaped, tf.cast(low, shaped.dtype), tf.cast(high, shaped.dtype))

    def named_parameters(self, parameters: tf.Tensor) -> dict[str, tf.Tensor]:
        """``mean`` and ``stddev``, each ``[B, *space.shape]``."""
        mean, log_std = self._split(parameters)
        shape = [-1, *self.space.shape]
        return {"mean": tf.reshape(mean, shape), "stddev": tf.reshape(tf.exp(log_std), shape)}

    def _split(self, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        parameters.shape.assert_has_rank(2)
        mean, log_std = tf.split(parameters, 2, axis=-1)
        return mean, log_std
