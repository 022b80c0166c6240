"""Categorical distributions of one or several choices, and action masks."""

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

# The logit of a forbidden action. It is finite, because -inf would give 0 * -inf = NaN in the entropy and its gradient.
# It is far below any logit of a network, so its softmax is exactly 0. It is far above the smallest float32, so sums
# with other logits do not overflow.
IMPOSSIBLE = -1e30


def masked(parameters: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Replaces the logits of forbidden actions by a number so low that their probability is exactly 0.

    A forbidden action is then never sampled and never the mode. It does not contribute to the entropy or to gradients,
    which stay finite (Huang & Ontanon 2020, "A closer look at invalid action masking in policy gradient algorithms",
    section 4).

    Args:
        parameters: ``[B, P]``, the logits of a :class:`Categorical` or a :class:`MultiCategorical`.
        mask: bool or float32 ``[B, P]``, true or 1 for allowed actions. Every row must allow at least one value of
            every component. :func:`pgkeras.spaces.spec.check_mask` checks this, because the graph cannot.
    """
    parameters.shape.assert_has_rank(2)
    mask.shape.assert_has_rank(2)
    mask.shape.assert_is_compatible_with(parameters.shape)
    allowed = mask if mask.dtype == tf.bool else mask > 0.5
    return tf.where(allowed, parameters, tf.constant(IMPOSSIBLE, parameters.dtype))


def _inverse_cdf(logits: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
    """Computes the inverse CDF at uniform noise u: the number of indices i with ``F(i) <= u``.

    In float32 the last ``F(i)`` is near 1, but not exactly 1. u is scaled by ``F(n - 1) (1 - 2^-23)`` to stay below it.
    Otherwise u = 1 - eps could give the index n, or an action of probability 0.

    Args:
        logits: ``[..., n]``.
        noise: ``[..., 1]``.
    """
    cumulative = tf.cumsum(tf.nn.softmax(logits), axis=-1)
    below = cumulative <= noise * (cumulative[..., -1:] * (1.0 - 2.0**-23))
    return tf.reduce_sum(tf.cast(below, tf.int64), axis=-1)


def _log_prob(logits: tf.Tensor, sample: tf.Tensor) -> tf.Tensor:
    """Computes ``log_softmax(logits)[sample]`` for logits ``[..., n]`` and indices ``[...]``.

    It multiplies by a one-hot vector, because the gradient of ``tf.gather`` with batch axes has 90 operations.
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
    """One of ``n`` actions. The parameters are logits, and a sample is an int64 index ``[B]``.

    Args:
        n: Number of actions.
        start: The action of index 0.
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
        """Whether the first action is not 0."""
        return self.start != 0

    def sample(self, parameters: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """Computes the inverse CDF at uniform noise u: the number of indices i with ``F(i) <= u``."""
        parameters.shape.assert_has_rank(2)
        noise.shape.assert_has_rank(2)
        return _inverse_cdf(parameters, noise)

    def mode(self, parameters: tf.Tensor) -> tf.Tensor:
        """Returns the index of the largest logit, the first one if several are equal."""
        return tf.argmax(parameters, axis=-1, output_type=tf.int64)

    def log_prob(self, parameters: tf.Tensor, sample: tf.Tensor) -> tf.Tensor:
        """Computes ``log_softmax(logits)[sample]``, which is finite even if the softmax is rounded to 0."""
        sample.shape.assert_has_rank(1)
        return _log_prob(parameters, sample)

    def entropy(self, parameters: tf.Tensor) -> tf.Tensor:
        """Computes ``-sum_i p_i ln p_i``."""
        return _entropy(parameters)

    def fisher(self, parameters: tf.Tensor, direction: tf.Tensor) -> tf.Tensor:
        """Computes ``p_i (d_i - sum_j p_j d_j)``."""
        return _fisher(parameters, direction)

    def action(self, sample: tf.Tensor) -> tf.Tensor:
        """Returns ``start + index``."""
        return sample + self.start if self.start else sample

    def named_parameters(self, parameters: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the ``probabilities`` ``[B, n]``."""
        return {"probabilities": tf.nn.softmax(parameters)}


@dataclass(frozen=True)
class MultiCategorical:
    """Several independent choices. A sample is int64 indices ``[B, D]``.

    The parameters are the logits of the first component's values, then those of the second component, in C order.

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
        """Whether a first value is not 0, or the action is not a vector."""
        return bool(self.space.start.any()) or len(self.space.shape) != 1

    def sample(self, parameters: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """Computes each component's inverse CDF at its column of the uniform noise."""
        noise.shape.assert_has_rank(2)
        return _inverse_cdf(self._logits(parameters), noise[:, :, tf.newaxis])

    def mode(self, parameters: tf.Tensor) -> tf.Tensor:
        """Returns the index of each component's largest logit, the first one if several are equal."""
        return tf.argmax(self._logits(parameters), axis=-1, output_type=tf.int64)

    def log_prob(self, parameters: tf.Tensor, sample: tf.Tensor) -> tf.Tensor:
        """Computes ``sum_d log_softmax(logits_d)[sample_d]``."""
        sample.shape.assert_has_rank(2)
        return tf.reduce_sum(_log_prob(self._logits(parameters), sample), axis=-1)

    def entropy(self, parameters: tf.Tensor) -> tf.Tensor:
        """Sums the entropies of the components, which are independent."""
        return tf.reduce_sum(_entropy(self._logits(parameters)), axis=-1)

    def fisher(self, parameters: tf.Tensor, direction: tf.Tensor) -> tf.Tensor:
        """Computes ``p_i (d_i - sum_j p_j d_j)`` within each component."""
        return self._flat(_fisher(self._logits(parameters), self._logits(direction)))

    def action(self, sample: tf.Tensor) -> tf.Tensor:
        """Returns ``start + indices`` in the space's shape."""
        shifted = sample + self.space.start.ravel() if self.space.start.any() else sample
        return shifted if len(self.space.shape) == 1 else tf.reshape(shifted, [-1, *self.space.shape])

    def named_parameters(self, parameters: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the ``probabilities`` ``[B, sum(nvec)]``, in the order of the logits."""
        return {"probabilities": self._flat(tf.nn.softmax(self._logits(parameters)))}

    @cached_property
    def _real(self) -> NDArray[np.bool_]:
        """``[D, max(nvec)]``, true if the component has a value of that index."""
        nvec = self.space.nvec.ravel()
        return np.asarray(np.arange(nvec.max()) < nvec[:, np.newaxis])

    @cached_property
    def _is_even(self) -> bool:
        return bool(self._real.all())

    def _logits(self, parameters: tf.Tensor) -> tf.Tensor:
        """Returns the logits as ``[B, D, max(nvec)]``, with ``IMPOSSIBLE`` as padding."""
        parameters.shape.assert_has_rank(2)
        if self._is_even:
            return tf.reshape(parameters, [-1, *self._real.shape])
        positions: NDArray[Any] = np.where(self._real.ravel(), np.cumsum(self._real) - 1, 0)
        logits = tf.reshape(tf.gather(parameters, positions, axis=1), [-1, *self._real.shape])
        return tf.where(self._real, logits, tf.constant(IMPOSSIBLE, parameters.dtype))

    def _flat(self, values: tf.Tensor) -> tf.Tensor:
        """Converts values ``[B, D, max(nvec)]`` to ``[B, sum(nvec)]``: the inverse of :meth:`_logits`."""
        flat = tf.reshape(values, [-1, values.shape[1] * values.shape[2]])
        return flat if self._is_even else tf.gather(flat, np.flatnonzero(self._real), axis=1)
