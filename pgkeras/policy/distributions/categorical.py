"""Categorical distributions: one choice, or several at once; and masks, which take choices away."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.backend import tf
from pgkeras.spaces import MultiDiscrete
from pgkeras.spaces.spec import DistributionKind

__all__ = ["IMPOSSIBLE", "Categorical", "MultiCategorical", "masked"]

# Finite, since -inf would make 0 * -inf = NaN of an entropy and its gradient; far below any logit of a network, so that
# its softmax is 0 exactly; and far enough from the least float32 that sums with other logits do not overflow.
IMPOSSIBLE = -1e30


def masked(parameters: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Logits with those of forbidden actions so low that their probability is exactly 0.

    A forbidden action is then never drawn and never the mode, and has no part in the entropy or in any gradient, all
    of which stay finite (Huang & Ontanon 2020, "A closer look at invalid action masking in policy gradient
    algorithms", section 4).

    Args:
        parameters: ``[B, P]``, of a :class:`Categorical` or a :class:`MultiCategorical`.
        mask: bool or float32 ``[B, P]``: true or 1 where an action is allowed. At least one must be in every row, and
            for every component of the action: :func:`pgkeras.spaces.spec.check_mask` refuses others, the graph cannot.
    """
    parameters.shape.assert_has_rank(2)
    mask.shape.assert_has_rank(2)
    mask.shape.assert_is_compatible_with(parameters.shape)
    allowed = mask if mask.dtype == tf.bool else mask > 0.5
    return tf.where(allowed, parameters, tf.constant(IMPOSSIBLE, parameters.dtype))


def _inverse_cdf(logits: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
    """The inverse distribution function at uniform noise u: the number of indices i with F(i) <= u.

    In float32 the last F(i) is near 1 but not 1. Scaling u to stay below it, by one unit in the last place, keeps
    u = 1 - eps from falling off the end and an action of probability 0 from being drawn.

    Args:
        logits: ``[..., n]``.
        noise: ``[..., 1]``.
    """
    cumulative = tf.cumsum(tf.nn.softmax(logits), axis=-1)
    below = cumulative <= noise * (cumulative[..., -1:] * (1.0 - 2.0**-23))
    return tf.reduce_sum(tf.cast(below, tf.int64), axis=-1)


def _log_prob(logits: tf.Tensor, sample: tf.Tensor) -> tf.Tensor:
    """``log_softmax(logits)[sample]``: of logits ``[..., n]`` and indices ``[...]``.

    By a product with a one and zeros instead of ``tf.gather``, whose gradient with batch axes is ninety operations.
    """
    log_p = tf.nn.log_softmax(logits)
    return tf.reduce_sum(log_p * tf.one_hot(sample, logits.shape[-1], dtype=log_p.dtype), axis=-1)


def _entropy(logits: tf.Tensor) -> tf.Tensor:
    log_p = tf.nn.log_softmax(logits)
    return -tf.reduce_sum(tf.exp(log_p) * log_p, axis=-1)


def _fisher(logits: tf.Tensor, direction: tf.Tensor) -> tf.Tensor:
    p = tf.nn.softmax(logits)
    return p * (direction - tf.reduce_sum(p * direction, axis=-1, keepdims=True))


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
        """The number of indices i with F(i) <= u, for uniform noise u: the inverse distribution function."""
        parameters.shape.assert_has_rank(2)
        noise.shape.assert_has_rank(2)
        return _inverse_cdf(parameters, noise)

    def mode(self, parameters: tf.Tensor) -> tf.Tensor:
        """The index of the largest logit, the first of equals."""
        return tf.argmax(parameters, axis=-1, output_type=tf.int64)

    def log_prob(self, parameters: tf.Tensor, sample: tf.Tensor) -> tf.Tensor:
        """``log_softmax(logits)[sample]``, which stays finite where log(softmax) would not."""
        sample.shape.assert_has_rank(1)
        return _log_prob(parameters, sample)

    def entropy(self, parameters: tf.Tensor) -> tf.Tensor:
        """``-sum_i p_i ln p_i``."""
        return _entropy(parameters)

    def fisher(self, parameters: tf.Tensor, direction: tf.Tensor) -> tf.Tensor:
        """``p_i (d_i - sum_j p_j d_j)``."""
        return _fisher(parameters, direction)

    def action(self, sample: tf.Tensor) -> tf.Tensor:
        """``start + index``."""
        return sample + self.start if self.start else sample

    def named_parameters(self, parameters: tf.Tensor) -> dict[str, tf.Tensor]:
        """``probabilities`` ``[B, n]``."""
        return {"probabilities": tf.nn.softmax(parameters)}


@dataclass(frozen=True)
class MultiCategorical:
    """Several choices at once, independent of each other; a sample is their indices ``[B, D]`` of type int64.

    The parameters are the logits of the first component's values, then those of the second's, and so on in C order.

    Args:
        space: The action space; D is the number of its elements.
    """

    space: MultiDiscrete

    kind = DistributionKind.MULTI_CATEGORICAL
    state_independent_size = 0

    @property
    def parameter_size(self) -> int:
        """One logit per value of every component."""
        return int(self.space.nvec.sum())

    @property
    def transforms(self) -> bool:
        """Whether the values begin elsewhere than at 0, or the action is anything but a vector."""
        return bool(self.space.start.any()) or len(self.space.shape) != 1

    def sample(self, parameters: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """The inverse distribution function of every component, at the uniform number of its own column."""
        noise.shape.assert_has_rank(2)
        return _inverse_cdf(self._logits(parameters), noise[:, :, tf.newaxis])

    def mode(self, parameters: tf.Tensor) -> tf.Tensor:
        """The index of every component's largest logit, the first of equals."""
        return tf.argmax(self._logits(parameters), axis=-1, output_type=tf.int64)

    def log_prob(self, parameters: tf.Tensor, sample: tf.Tensor) -> tf.Tensor:
        """``sum_d log_softmax(logits_d)[sample_d]``."""
        sample.shape.assert_has_rank(2)
        return tf.reduce_sum(_log_prob(self._logits(parameters), sample), axis=-1)

    def entropy(self, parameters: tf.Tensor) -> tf.Tensor:
        """The sum of the components' entropies, since they are independent."""
        return tf.reduce_sum(_entropy(self._logits(parameters)), axis=-1)

    def fisher(self, parameters: tf.Tensor, direction: tf.Tensor) -> tf.Tensor:
        """``p_i (d_i - sum_j p_j d_j)`` within every component."""
        return self._flat(_fisher(self._logits(parameters), self._logits(direction)))

    def action(self, sample: tf.Tensor) -> tf.Tensor:
        """``start + indices``, of the space's shape."""
        shifted = sample + self.space.start.ravel() if self.space.start.any() else sample
        return shifted if len(self.space.shape) == 1 else tf.reshape(shifted, [-1, *self.space.shape])

    def named_parameters(self, parameters: tf.Tensor) -> dict[str, tf.Tensor]:
        """``probabilities`` ``[B, sum(nvec)]``, in the order of the logits."""
        return {"probabilities": self._flat(tf.nn.softmax(self._logits(parameters)))}

    @cached_property
    def _real(self) -> NDArray[np.bool_]:
        """``[D, max(nvec)]``: where a component has a value of that index."""
        nvec = self.space.nvec.ravel()
        return np.asarray(np.arange(nvec.max()) < nvec[:, np.newaxis])

    @cached_property
    def _is_even(self) -> bool:
        return bool(self._real.all())

    def _logits(self, parameters: tf.Tensor) -> tf.Tensor:
        """The logits as ``[B, D, max(nvec)]``, where what a component does not have is impossible."""
        parameters.shape.assert_has_rank(2)
        if self._is_even:
            return tf.reshape(parameters, [-1, *self._real.shape])
        positions: NDArray[Any] = np.where(self._real.ravel(), np.cumsum(self._real) - 1, 0)
        logits = tf.reshape(tf.gather(parameters, positions, axis=1), [-1, *self._real.shape])
        return tf.where(self._real, logits, tf.constant(IMPOSSIBLE, parameters.dtype))

    def _flat(self, values: tf.Tensor) -> tf.Tensor:
        """``[B, sum(nvec)]``, from values ``[B, D, max(nvec)]``: the inverse of :meth:`_logits`."""
        flat = tf.reshape(values, [-1, values.shape[1] * values.shape[2]])
        return flat if self._is_even else tf.gather(flat, np.flatnonzero(self._real), axis=1)
