"""REINFORCE, phase two: from whole episodes to one gradient step.

The algorithm (Williams 1992; Sutton & Barto 2nd ed., section 13.3), in the order in which it runs:

1. With the policy frozen, play whole episodes by sampling: :mod:`pgkeras.environments.collect`.
2. Compute the discounted return ``R_t`` of every step: :func:`pgkeras.reinforce.returns.discounted_returns`.
3. Optionally subtract a baseline ``b_t`` that does not depend on the action. The difference is the advantage
   ``A_t = R_t - b_t``: :func:`pgkeras.reinforce.estimator.advantages`.
4. Compute the loss ``-sum_t log P(a_t | s_t) * A_t``, averaged over the episodes: :func:`reinforce_loss`.
5. Take one gradient step: :class:`pgkeras.reinforce.train_step.TrainStep`. Discard the episodes and repeat from 1.

``examples/reinforce_in_100_lines.py`` has all five steps in one file, without options.

Several gradient steps on one batch are a different algorithm, for simulators whose steps are expensive:
:mod:`pgkeras.reinforce.reuse`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pgkeras.backend import tf
from pgkeras.policy.policy import Policy
from pgkeras.reinforce.batch import Batch

__all__ = ["Gradient", "Sums", "policy_gradient", "reinforce_loss"]


class Sums(NamedTuple):
    """Sums over the real steps of a batch. The sums of a batch's parts add up to those of the batch."""

    loss: tf.Tensor
    entropy: tf.Tensor  # nats
    steps: tf.Tensor
    kl: tf.Tensor  # KL(policy that played || current policy), nats; 0 in the first step on a batch


class Gradient(NamedTuple):
    """The gradient of the loss on one batch, with the sums and log-probabilities from its forward pass."""

    sums: Sums
    log_prob: tf.Tensor  # [N]
    gradients: list[tf.Tensor]  # one per trainable variable


def reinforce_loss(log_prob: tf.Tensor, advantage: tf.Tensor, episodes: tf.Tensor) -> tf.Tensor:
    """Computes step 4, ``-sum_t log P(a_t | s_t) * A_t``, summed over each episode's steps and averaged over episodes.

    Its gradient is an estimate of the negative policy gradient. Advantages are treated as constants.

    Args:
        log_prob: ``[N]``, log-probabilities of the actions of all steps of all episodes.
        advantage: ``[N]``, 0 for padding.
        episodes: Scalar, the number of episodes.

    Returns:
        The loss, a scalar.
    """
    log_prob.shape.assert_has_rank(1)
    advantage.shape.assert_has_rank(1)
    return -tf.reduce_sum(log_prob * tf.stop_gradient(advantage)) / episodes


def policy_gradient(
    policy: Policy,
    batch: Batch,
    entropy_bonus: tf.Tensor | None = None,
    loss_of: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor] = reinforce_loss,
) -> Gradient:
    """Computes the gradient of ``loss - entropy_bonus * entropy`` on a batch.

    Like the loss, the entropy is summed over each episode's steps and averaged over episodes.

    Args:
        policy: The policy.
        batch: The episodes.
        entropy_bonus: Weight of the entropy; None for 0.
        loss_of: Computes the loss from log-probabilities ``[N]``, advantages ``[N]`` and the number of episodes.
    """
    sample, advantage, real = (policy.flat(array) for array in (batch.sample, batch.advantage, batch.real))
    with tf.GradientTape() as tape:
        parameters = policy.unroll(batch.observation)
        entropy = tf.reduce_sum(policy.distribution.entropy(parameters) * real)
        log_prob = policy.distribution.log_prob(parameters, sample)
        loss = loss_of(log_prob, advantage, batch.episodes)
        if entropy_bonus is not None:
            loss -= entropy_bonus * entropy / batch.episodes
    # A variable that the loss does not depend on gets a gradient of zeros. The gradient of an embedding is
    # IndexedSlices with one slice per lookup. It is converted to a dense tensor, because the norm of the slices is not
    # the norm of the gradient when an index occurs twice.
    gradients = tape.gradient(loss, policy.model.trainable_variables, unconnected_gradients="zero")
    sums = Sums(loss, entropy, steps=tf.reduce_sum(real), kl=tf.zeros([]))
    return Gradient(sums, log_prob, [tf.convert_to_tensor(gradient) for gradient in gradients])
