"""REINFORCE, phase two: from whole episodes to one gradient step.

The algorithm (Williams 1992; Sutton & Barto 2nd ed., section 13.3), in the order in which it runs:

1. With the policy frozen, play whole episodes by sampling: :mod:`pgkeras.environments.collect`.
2. Compute the discounted return ``R_t`` of every step: :func:`pgkeras.reinforce.returns.discounted_returns`.
3. Subtract a baseline ``b_t`` that does not depend on the action, if one is wanted: the advantage,
   :func:`pgkeras.reinforce.estimator.advantages`.
4. Loss: ``-sum_t log P(a_t | s_t) * (R_t - b_t)``, averaged over the episodes: :func:`reinforce_loss`.
5. One gradient step: :class:`pgkeras.reinforce.train_step.TrainStep`. Then forget the episodes and begin again.

``examples/reinforce_in_100_lines.py`` has all five in one file, without options.

More than one step on a batch is another algorithm, for simulators whose steps are expensive: it is in
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
    """Sums over the real steps of a batch; those of its parts add up."""

    loss: tf.Tensor
    entropy: tf.Tensor  # nats
    steps: tf.Tensor
    kl: tf.Tensor  # from the policy that played; 0 in the first step on a batch


class Gradient(NamedTuple):
    """The gradient of the loss on one batch, and what was computed on the way."""

    sums: Sums
    log_prob: tf.Tensor  # [N]
    gradients: list[tf.Tensor]  # one for each trainable variable


def reinforce_loss(log_prob: tf.Tensor, advantage: tf.Tensor, episodes: tf.Tensor) -> tf.Tensor:
    """Step 4: ``-sum_t log P(a_t | s_t) * A_t / episodes``: the sum over an episode's steps, averaged over episodes.

    Its gradient estimates minus the policy gradient. Advantages are treated as constants.

    Args:
        log_prob: ``[N]``, for all steps of all episodes.
        advantage: ``[N]``, zero where a step is padding.
        episodes: Scalar, the number of episodes.
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
    """The gradient of the loss on a batch, minus ``entropy_bonus`` times the entropy.

    The entropy, too, is summed over an episode's steps and averaged over episodes.

    Args:
        policy: The policy.
        batch: The episodes.
        entropy_bonus: Weight of the entropy; None for 0.
        loss_of: The loss, from log-probabilities ``[N]``, advantages ``[N]`` and the number of episodes.
    """
    sample, advantage, real = (policy.flat(array) for array in (batch.sample, batch.advantage, batch.real))
    with tf.GradientTape() as tape:
        parameters = policy.unroll(batch.observation)
        entropy = tf.reduce_sum(policy.distribution.entropy(parameters) * real)
        log_prob = policy.distribution.log_prob(parameters, sample)
        loss = loss_of(log_prob, advantage, batch.episodes)
        if entropy_bonus is not None:
            loss -= entropy_bonus * entropy / batch.episodes
    # Zeros where the loss does not depend on a variable. An embedding's gradient comes as slices, one for each lookup,
    # whose norm is not that of their sum: the dense tensor's is.
    gradients = tape.gradient(loss, policy.model.trainable_variables, unconnected_gradients="zero")
    sums = Sums(loss, entropy, steps=tf.reduce_sum(real), kl=tf.zeros([]))
    return Gradient(sums, log_prob, [tf.convert_to_tensor(gradient) for gradient in gradients])
