"""One gradient step on a batch in several parts, whose gradients are added up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pgkeras.backend import tf
from pgkeras.reinforce.reinforce import Gradient, Sums

__all__ = ["AccumulatedStep", "accumulated", "packed_metrics"]


def packed_metrics(sums: Sums, norm: tf.Tensor, kl: tf.Tensor | None) -> tf.Tensor:
    """Loss, mean entropy, gradient norm and mean divergence, ``[4]``, from sums over steps: one transfer, not four.

    The divergence is NaN if it was not measured: ``kl`` is None.
    """
    mean_kl = float("nan") if kl is None else kl / sums.steps
    return tf.stack([sums.loss, sums.entropy / sums.steps, norm, mean_kl])


def accumulated(parts: Iterable[Gradient]) -> tuple[Sums, list[tf.Tensor], list[tf.Tensor]]:
    """Adds up the gradients of the parts of a batch, which are computed one at a time as the iterable is read.

    Returns:
        The sums and the gradients, added up; and the log-probabilities, by part.
    """
    total = None
    log_probs = []
    for part in parts:
        log_probs.append(part.log_prob)
        found = part.sums, part.gradients
        total = found if total is None else tf.nest.map_structure(tf.add, total, found)
    assert total is not None  # a batch has at least one part
    return *total, log_probs


class AccumulatedStep:
    """One gradient step on a batch in several parts.

    Args:
        gradient: Computes the :class:`pgkeras.reinforce.reinforce.Gradient` of one part; all three are compiled.
        descend: Moves the weights down a list of gradients; returns its norm and the weights afterwards.
        divergence: How far the weights have moved, summed over one part's steps, from its log-probabilities before;
            None: it is not measured, and the parts are not copied to the device a second time for it.
    """

    def __init__(
        self,
        gradient: Callable[..., Gradient],
        descend: Callable[..., tuple[tf.Tensor, ...]],
        divergence: Callable[..., tf.Tensor] | None,
    ) -> None:
        self._gradient, self._descend, self._divergence = gradient, descend, divergence

    def __call__(self, parts: Sequence[Any], states: Sequence[tf.Tensor] = ()) -> tuple[tf.Tensor, ...]:
        """Takes the step; returns :func:`packed_metrics` and the weights afterwards.

        Args:
            parts: The batch.
            states: What ``descend`` takes beside the gradients.
        """
        sums, gradients, log_probs = accumulated(map(self._gradient, parts))
        norm, *weights = self._descend(gradients, *states)
        kl = None
        if self._divergence is not None:
            kl = tf.add_n([self._divergence(part, old) for part, old in zip(parts, log_probs, strict=True)])
        return packed_metrics(sums, norm, kl), *weights
