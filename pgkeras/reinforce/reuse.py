"""Reuse: several gradient steps on a batch, where REINFORCE takes one; for environments whose steps are expensive.

The episodes were played by the policy as it was before the first gradient step. From the second one on they are those
of an older policy, so each action is weighted by how much more probable it has become. The weight is clipped, so that
no single action pulls the policy far (Schulman et al. 2017, "Proximal policy optimization algorithms", equation 7).
Episodes and returns stay whole: advantages are Monte-Carlo, as ever. With more than one gradient step this is not
REINFORCE any more, and the estimate is biased: see ``docs/estimator.md``.
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

__all__ = ["MoreSteps", "Reuse", "clipped_surrogate", "surrogate_gradient"]


@dataclass(frozen=True)
class Reuse:
    """How often a batch is used.

    Args:
        steps: Most gradient steps on a batch, the first one included.
        clip: How far an action's importance weight may move from 1, in the direction that its advantage favours,
            before its gradient becomes 0.
        most_kl: Mean divergence per step from the policy that played, beyond which no further step is taken.
    """

    steps: int
    clip: float
    most_kl: float


def clipped_surrogate(log_prob: tf.Tensor, old: tf.Tensor, advantage: tf.Tensor, clip: float) -> tf.Tensor:
    """``min(r A, clip(r, 1 - clip, 1 + clip) A)`` for every step, with ``r = P(a | s) / P_old(a | s)``.

    At ``log_prob = old`` its gradient is that of ``log_prob * A``.

    Args:
        log_prob: ``[N]``, under the policy that learns.
        old: ``[N]``, under the one that played.
        advantage: ``[N]``, zero where a step is padding.
        clip: See :class:`Reuse`.
    """
    log_prob.shape.assert_has_rank(1)
    old.shape.assert_has_rank(1)
    advantage.shape.assert_has_rank(1)
    log_ratio = tf.where(advantage != 0.0, log_prob - tf.stop_gradient(old), 0.0)  # padding's ratio may overflow
    ratio = tf.exp(log_ratio)
    clipped = tf.clip_by_value(ratio, 1.0 - clip, 1.0 + clip)
    return tf.minimum(ratio * advantage, clipped * advantage)


def surrogate_gradient(
    policy: Policy, batch: Batch, old: tf.Tensor, clip: float, entropy_bonus: tf.Tensor | None = None
) -> Gradient:
    """As :func:`pgkeras.reinforce.reinforce.policy_gradient`, for a batch that another policy has played.

    Args:
        policy: The policy that learns.
        batch: The batch.
        old: ``[N]``, the log-probabilities of its actions under the policy that played.
        clip: See :func:`clipped_surrogate`.
        entropy_bonus: Weight of the entropy's sum over an episode.
    """

    def loss(log_prob: tf.Tensor, advantage: tf.Tensor, episodes: tf.Tensor) -> tf.Tensor:
        return -tf.reduce_sum(clipped_surrogate(log_prob, old, advantage, clip)) / episodes

    found = policy_gradient(policy, batch, entropy_bonus, loss)
    kl = approximate_kl(old, found.log_prob, policy.flat(batch.real))
    return found._replace(sums=found.sums._replace(kl=kl))


class MoreSteps:
    """The steps after the first one.

    Args:
        reuse: How many.
        log_prob: Computes the log-probabilities of a batch's actions; this and the others are compiled.
        gradient: Computes :func:`surrogate_gradient` from a batch and its log-probabilities when it was played.
        descend: Moves the weights down a list of gradients; returns its norm and the weights afterwards.
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

    def before(self, parts: Sequence[Any]) -> list[Any]:
        """The log-probabilities of a batch's parts under the policy as it is: call it before the first step."""
        return [self._log_prob(part) for part in parts]

    def __call__(self, parts: Sequence[Any], before: list[Any]) -> tuple[int, float, list[tf.Tensor] | None]:
        """Takes the steps after the first one.

        Args:
            parts: The batch, in parts.
            before: What :meth:`before` gave.

        Returns:
            How many steps were taken on the batch in all, the mean divergence from the policy that played, and the
            weights; None if there was no other step.
        """
        weights = None
        taken = 1
        while True:
            found = (self._gradient(part, old) for part, old in zip(parts, before, strict=True))
            sums, gradients, _ = accumulated(found)
            kl = float(sums.kl / sums.steps)
            if taken >= self._reuse.steps or not kl <= self._reuse.most_kl:
                return taken, kl, weights
            _, *weights = self._descend(gradients)
            taken += 1
