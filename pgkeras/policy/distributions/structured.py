"""The distribution of structured actions: a Dict or Tuple with one distribution per leaf."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from pgkeras.backend import tf
from pgkeras.policy.distributions.base import Distribution
from pgkeras.policy.distributions.categorical import masked
from pgkeras.spaces.spec import ActionPart, DistributionKind

__all__ = ["Structured"]


@dataclass(frozen=True)
class Structured:
    """Independent parts. The joint log-probability and entropy are the sums over the parts.

    The parameters are the state-dependent parameters of all parts, in order, then the state-independent ones. Samples
    and actions are packed into float32 rows: the numbers of all parts, in order. Integers up to 2^24 are exact.

    Args:
        parts: The leaves, from :attr:`pgkeras.spaces.spec.PolicySpec.parts`.
        distributions: One distribution per part.
    """

    parts: tuple[ActionPart, ...]
    distributions: tuple[Distribution, ...]

    kind = DistributionKind.STRUCTURED
    transforms = True

    @property
    def parameter_size(self) -> int:
        """The sum over the parts."""
        return sum(one.parameter_size for one in self.distributions)

    @property
    def state_independent_size(self) -> int:
        """The sum over the parts."""
        return sum(one.state_independent_size for one in self.distributions)

    def sample(self, parameters: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """Returns the samples of all parts, each from its columns of the noise."""
        noise.shape.assert_has_rank(2)
        sizes = [math.prod(part.space.shape) for part in self.parts]
        columns = tf.split(noise, sizes, axis=1)
        terms = zip(self.distributions, self._split(parameters), columns, strict=True)
        return self._packed([one.sample(p, u) for one, p, u in terms], parameters.dtype)

    def mode(self, parameters: tf.Tensor) -> tf.Tensor:
        """Returns the modes of all parts."""
        terms = zip(self.distributions, self._split(parameters), strict=True)
        return self._packed([one.mode(p) for one, p in terms], parameters.dtype)

    def log_prob(self, parameters: tf.Tensor, sample: tf.Tensor) -> tf.Tensor:
        """Computes ``sum_k ln P_k(sample_k)``."""
        terms = zip(self.distributions, self._split(parameters), self._samples(sample), strict=True)
        return tf.add_n([one.log_prob(p, x) for one, p, x in terms])

    def entropy(self, parameters: tf.Tensor) -> tf.Tensor:
        """Computes ``sum_k H_k``."""
        return tf.add_n([one.entropy(p) for one, p in zip(self.distributions, self._split(parameters), strict=True)])

    def fisher(self, parameters: tf.Tensor, direction: tf.Tensor) -> tf.Tensor:
        """Multiplies each part's direction by its own Fisher information, because the parts are independent."""
        terms = zip(self.distributions, self._split(parameters), self._split(direction), strict=True)
        return self._joined([one.fisher(p, d) for one, p, d in terms])

    def action(self, sample: tf.Tensor) -> tf.Tensor:
        """Returns the actions of all parts, packed in :attr:`pgkeras.spaces.spec.PolicySpec.action_layout`."""
        samples = self._samples(sample)
        return self._packed([one.action(x) for one, x in zip(self.distributions, samples, strict=True)], sample.dtype)

    def named_parameters(self, parameters: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the parameters of all parts, by the names in the part's ``outputs``."""
        named: dict[str, tf.Tensor] = {}
        for part, one, own in zip(self.parts, self.distributions, self._split(parameters), strict=True):
            named |= {part.outputs[name]: tensor for name, tensor in one.named_parameters(own).items()}
        return named

    def masked(self, parameters: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Replaces the logits of forbidden values; see :func:`pgkeras.policy.distributions.masked`.

        Args:
            parameters: ``[B, parameter_size]``.
            mask: ``[B, mask_size]``, the masks of all categorical and multi-categorical parts, in order.
        """
        own, start = self._split(parameters), 0
        for k, part in enumerate(self.parts):
            if part.kind in _MASKABLE:
                size = self.distributions[k].parameter_size
                own[k] = masked(own[k], mask[:, start : start + size])
                start += size
        return self._joined(own)

    @cached_property
    def _dependent(self) -> list[int]:
        return [one.parameter_size - one.state_independent_size for one in self.distributions]

    @cached_property
    def _free(self) -> list[int]:
        return [one.state_independent_size for one in self.distributions]

    def _split(self, parameters: tf.Tensor) -> list[tf.Tensor]:
        """Returns the parameters of each part, in the form that its distribution takes."""
        parameters.shape.assert_has_rank(2)
        pieces = tf.split(parameters, [*self._dependent, *(size for size in self._free if size)], axis=1)
        dependent, free = pieces[: len(self.parts)], iter(pieces[len(self.parts) :])
        return [tf.concat([p, next(free)], 1) if size else p for p, size in zip(dependent, self._free, strict=True)]

    def _joined(self, own: Sequence[tf.Tensor]) -> tf.Tensor:
        """The inverse of :meth:`_split`."""
        dependent = [p[:, :size] for p, size in zip(own, self._dependent, strict=True)]
        free = [p[:, size:] for p, size, more in zip(own, self._dependent, self._free, strict=True) if more]
        return tf.concat([*dependent, *free], axis=1)

    def _packed(self, values: Sequence[tf.Tensor], dtype: tf.DType) -> tf.Tensor:
        rows = [
            tf.reshape(tf.cast(value, dtype), [-1, part.stop - part.start])
            for part, value in zip(self.parts, values, strict=True)
        ]
        return tf.concat(rows, axis=1)

    def _samples(self, sample: tf.Tensor) -> list[tf.Tensor]:
        """Returns the sample of each part, in the form that its distribution takes."""
        sample.shape.assert_has_rank(2)
        pieces = tf.split(sample, [part.stop - part.start for part in self.parts], axis=1)
        found = []
        for part, piece in zip(self.parts, pieces, strict=True):
            own = tf.cast(piece, tf.int64) if part.kind.is_discrete else piece
            found.append(tf.squeeze(own, axis=1) if part.kind is DistributionKind.CATEGORICAL else own)
        return found


_MASKABLE = (DistributionKind.CATEGORICAL, DistributionKind.MULTI_CATEGORICAL)
