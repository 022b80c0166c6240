"""The Kullback-Leibler divergence between two policies, estimated from samples of the first."""

from __future__ import annotations

from pgkeras.backend import tf
from pgkeras.policy.policy import Policy
from pgkeras.reinforce.batch import Batch

__all__ = ["action_log_prob", "approximate_kl", "policy_kl"]


def approximate_kl(old: tf.Tensor, new: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """Estimates KL(old || new), summed over real steps, from log-probabilities of samples of the old policy.

    The estimate is ``r - 1 - ln r`` with the probability ratio ``r = P_new(a | s) / P_old(a | s)``. Its expectation is
    the KL divergence, it is never negative, and it needs no closed form (Schulman 2020, "Approximating KL divergence").

    Args:
        old: ``[N]``, log-probabilities under the policy that drew the samples.
        new: ``[N]``, log-probabilities under the other policy.
        real: ``[N]``, 1 for real steps and 0 for padding.

    Returns:
        Scalar, in nats.
    """
    new.shape.assert_has_rank(1)
    log_ratio = tf.where(real > 0, new - old, tf.zeros_like(old))  # exp would overflow in padding
    return tf.reduce_sum(tf.exp(log_ratio) - 1.0 - log_ratio)


def action_log_prob(policy: Policy, batch: Batch) -> tf.Tensor:
    """Returns the log-probabilities ``[N]`` of a batch's actions."""
    return policy.distribution.log_prob(policy.unroll(batch.observation), policy.flat(batch.sample))


def policy_kl(policy: Policy, batch: Batch, old: tf.Tensor) -> tf.Tensor:
    """Estimates KL(old || policy), summed over real steps, from the old policy's log-probabilities ``[N]``."""
    return approximate_kl(old, action_log_prob(policy, batch), policy.flat(batch.real))
