"""Gradient accumulation: one gradient step on a batch in several parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pgkeras.backend import tf
from pgkeras.reinforce.reinforce import Gradient, Sums

__all__ = ["AccumulatedStep", "accumulated", "packed_metrics"]


def packed_metrics(sums: Sums, norm: tf.Tensor, kl: tf.Tensor | None) -> tf.Tensor:
    """Returns loss, mean entropy, gradient norm and mean KL divergence as one tensor ``[4]``, which saves transfers.

    Args:
        sums: Sums over steps.
        norm: The gradient norm.
        kl: Sum of the KL divergence over steps; None if not measured, which gives NaN.
    """
    mean_kl = float("nan") if kl is None else kl / sums.steps
    return tf.stack([sums.loss, sums.entropy / sums.steps, norm, mean_kl])


def accumulated(parts: Iterable[Gradient]) -> tuple[Sums, list[tf.Tensor], list[tf.Tensor]]:
    """Adds up the gradients of the parts of a batch. A lazy iterable computes one part at a time.

    Returns:
        The total sums, the total gradients, and a list of each part's log-probabilities.
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
    """One gradient step on a batch in several parts. All three functions are compiled.

    Args:
        gradient: Computes the :class:`pgkeras.reinforce.reinforce.Gradient` of one part.
        descend: Applies a list of gradients; returns their norm and the weights after the step.
        divergence: Computes the KL divergence of the step, summed over the steps of one part, from the part and its
            log-probabilities before the step. None if it is not measured. This saves copying the parts to the device
            twice.
    """

    def __init__(
        self,
        gradient: Callable[..., Gradient],
        descend: Callable[..., tuple[tf.Tensor, ...]],
        divergence: Callable[..., tf.Tensor] | None,
    ) -> None:
        self._gradient, self._descend, self._divergence = gradient, descend, divergence

    def __call__(self, parts: Sequence[Any], states: Sequence[tf.Tensor] = ()) -> tuple[tf.Tensor, ...]:
        """Takes the step; returns :func:`packed_metrics` and the weights after the step.

        Args:
            parts: The parts of the batch.
            states: Further arguments of ``descend``.
        """
        sums, gradients, log_probs = accumulated(map(self._gradient, parts))
        norm, *weights = self._descend(gradients, *states)
        kl = None
        if self._divergence is not None:
            kl = tf.add_n([self._divergence(part, old) for part, old in zip(parts, log_probs, strict=True)])
        return packed_metrics(sums, norm, kl), *weights
