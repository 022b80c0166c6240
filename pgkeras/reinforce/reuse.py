"""Reuse: several gradient steps per batch instead of one, for environments whose steps are expensive.

From the second gradient step on, the episodes were played by an older policy. Each advantage is therefore multiplied by
the importance weight of its action, the ratio of the action's new probability to the old one. The weight is clipped to
limit the effect of a single action (Schulman et al. 2017, "Proximal policy optimization algorithms", equation 7). The
advantages remain Monte-Carlo estimates from whole episodes. With more than one gradient step per batch the algorithm is
no longer REINFORCE, and the estimate is biased: see ``docs/estimator.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pgkeras.backend import tf
from pgkeras.policy.policy import Policy
from pgkeras.reinforce.accumulation import accumulated
from pgkeras.reinforce.batch import Batch
from pgkeras.reinforce.kl import approximate_kl
from pgkeras.reinforce.reinforce import Gradient, policy_gradient

__all__ = ["Reuse", "ReusedSteps", "clipped_surrogate", "surrogate_gradient"]


@dataclass(frozen=True)
class Reuse:
    """Settings for several gradient steps per batch.

    Args:
        steps: Maximum number of gradient steps per batch, including the first one.
        clip: The gradient of an action becomes 0 when its importance weight has moved this far from 1 in the direction
            that its advantage favors.
        max_kl: No further step is taken if the mean KL divergence per step, from the policy that played, exceeds this.
    """

    steps: int
    clip: float
    max_kl: float


def clipped_surrogate(log_prob: tf.Tensor, old: tf.Tensor, advantage: tf.Tensor, clip: float) -> tf.Tensor:
    """Computes ``min(r A, clip(r, 1 - clip, 1 + clip) A)`` for every step, with ``r = P(a | s) / P_old(a | s)``.

    At ``log_prob = old`` its gradient equals that of ``log_prob * A``, as in REINFORCE.

    Args:
        log_prob: ``[N]``, log-probabilities under the policy in training.
        old: ``[N]``, log-probabilities under the policy that played.
        advantage: ``[N]``, 0 for padding.
        clip: See :class:`Reuse`.

    Returns:
        ``[N]``.
    """
    log_prob.shape.assert_has_rank(1)
    old.shape.assert_has_rank(1)
    advantage.shape.assert_has_rank(1)
    log_ratio = tf.where(advantage != 0.0, log_prob - tf.stop_gradient(old), 0.0)  # exp would overflow in padding
    ratio = tf.exp(log_ratio)
    clipped = tf.clip_by_value(ratio, 1.0 - clip, 1.0 + clip)
    return tf.minimum(ratio * advantage, clipped * advantage)


def surrogate_gradient(
    policy: Policy, batch: Batch, old: tf.Tensor, clip: float, entropy_bonus: tf.Tensor | None = None
) -> Gradient:
    """Computes the gradient as :func:`pgkeras.reinforce.reinforce.policy_gradient`, with the clipped surrogate loss.

    Args:
        policy: The policy in training.
        batch: The batch, played by an older policy.
        old: ``[N]``, log-probabilities of the batch's actions under the policy that played.
        clip: See :class:`Reuse`.
        entropy_bonus: Weight of the entropy; None for 0.
    """

    def loss(log_prob: tf.Tensor, advantage: tf.Tensor, episodes: tf.Tensor) -> tf.Tensor:
        return -tf.reduce_sum(clipped_surrogate(log_prob, old, advantage, clip)) / episodes

    found = policy_gradient(policy, batch, entropy_bonus, loss)
    kl = approximate_kl(old, found.log_prob, policy.flat(batch.real))
    return found._replace(sums=found.sums._replace(kl=kl))


class ReusedSteps:
    """The gradient steps on a batch after the first one. All three functions are compiled.

    Args:
        reuse: The settings.
        log_prob: Computes the log-probabilities of a batch's actions.
        gradient: Computes :func:`surrogate_gradient` from a batch and its log-probabilities under the policy that
            played.
        descend: Applies a list of gradients; returns their norm and the weights after the step.
    """

    def __init__(
        self,
        reuse: Reuse,
        log_prob: Callable[..., Any],
        gradient: Callable[..., Gradient],
        descend: Callable[..., tuple[tf.Tensor, ...]],
    ) -> None:
        self._reuse = reuse
        self._log_prob, self._gradient, self._descend = log_prob, gradient, descend

    def log_probs(self, parts: Sequence[Any]) -> list[Any]:
        """Returns the log-probabilities of each part's actions. Call this before the first gradient step."""
        return [self._log_prob(part) for part in parts]

    def __call__(self, parts: Sequence[Any], old_log_probs: list[Any]) -> tuple[int, float, list[tf.Tensor] | None]:
        """Takes the steps after the first one.

        Args:
            parts: The parts of the batch.
            old_log_probs: The result of :meth:`log_probs`.

        Returns:
            The number of steps taken on the batch, including the first one; the mean KL divergence from the policy that
            played; and the weights after the last step, None if only the first step was taken.
        """
        weights = None
        taken = 1
        while True:
            found = (self._gradient(part, old) for part, old in zip(parts, old_log_probs, strict=True))
            sums, gradients, _ = accumulated(found)
            kl = float(sums.kl / sums.steps)
            if taken >= self._reuse.steps or not kl <= self._reuse.max_kl:
                return taken, kl, weights
            _, *weights = self._descend(gradients)
            taken += 1
