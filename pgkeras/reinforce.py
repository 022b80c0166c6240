"""REINFORCE, phase two: from whole episodes to one gradient step.

The algorithm (Williams 1992; Sutton & Barto 2nd ed., section 13.3), in the order in which it runs:

1. With the policy frozen, play whole episodes by sampling: :mod:`pgkeras.collect`.
2. Compute the discounted return ``R_t`` of every step: :func:`pgkeras.returns.discounted_returns`.
3. Subtract a baseline ``b_t`` that does not depend on the action, if one is wanted: the advantage,
   :func:`pgkeras.estimator.advantages`.
4. Loss: ``-sum_t log P(a_t | s_t) * (R_t - b_t)``, averaged over the episodes: :func:`reinforce_loss`.
5. One gradient step: :class:`TrainStep`. Then forget the episodes and begin again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgkeras.backend import keras, tf
from pgkeras.policy import Policy
from pgkeras.trajectory import Trajectory

__all__ = ["StepMetrics", "TrainStep", "kl_divergence", "reinforce_loss"]


def reinforce_loss(log_prob: tf.Tensor, advantage: tf.Tensor, episodes: tf.Tensor) -> tf.Tensor:
    """Step 4: ``-sum_t log P(a_t | s_t) * A_t / episodes``: the sum over an episode's steps, averaged over episodes.

    Its gradient is an estimate of minus the gradient of the expected return. Advantages are constants to it.

    Args:
        log_prob: ``[N]``, for all steps of all episodes.
        advantage: ``[N]``, zero where a step is padding.
        episodes: Scalar, the number of episodes.
    """
    log_prob.shape.assert_has_rank(1)
    advantage.shape.assert_has_rank(1)
    return -tf.reduce_sum(log_prob * tf.stop_gradient(advantage)) / episodes


def kl_divergence(old: tf.Tensor, new: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """KL(old || new), the mean over real steps, from log-probabilities of samples of the old policy.

    The estimate is ``r - 1 - ln r`` with ``r = new / old``: its expectation is the divergence, it is never negative,
    and it needs no closed form (Schulman 2020, "Approximating KL divergence").

    Args:
        old: ``[N]``, log-probabilities under the policy that drew the samples.
        new: ``[N]``, under the other.
        real: ``[N]``, zero where a step is padding and one elsewhere.
    """
    log_ratio = new - old
    log_ratio.shape.assert_has_rank(1)
    return tf.reduce_sum((tf.exp(log_ratio) - 1.0 - log_ratio) * real) / tf.reduce_sum(real)


class StepMetrics(NamedTuple):
    """What one gradient step reports."""

    loss: float
    entropy: float  # mean over real steps, nats
    gradient_norm: float  # before clipping
    kl: float  # mean over real steps of the divergence from the policy before; NaN if it is not measured


class TrainStep:
    """Step 5: one gradient step on one batch of episodes.

    Args:
        policy: The policy whose network is trained.
        optimizer: Any Keras optimizer.
        clip_norm: Gradients of a larger global norm are scaled down to it; None leaves them alone.
        entropy_bonus: Weight of the entropy's sum over an episode, which is subtracted from the loss.
        jit_compile: Whether to compile the step with XLA; batches are then padded to powers of two.
        measure_kl: Whether to measure how far the step moved the policy, which takes one more forward pass.

    A policy without memory takes all real steps of a batch, flat, ``[N, ...]``; one with memory takes the episodes as
    they are, ``[T, B, ...]``, with their padding.
    """

    def __init__(
        self,
        policy: Policy,
        optimizer: keras.optimizers.Optimizer,
        *,
        clip_norm: float | None = None,
        entropy_bonus: float = 0.0,
        jit_compile: bool = False,
        measure_kl: bool = False,
    ) -> None:
        self._policy = policy
        self.optimizer = optimizer
        self._clip_norm = clip_norm
        self._entropy_bonus = tf.Variable(entropy_bonus, trainable=False, dtype=tf.float32) if entropy_bonus else None
        self._pad = jit_compile
        self._measure_kl = measure_kl
        self.traces = 0
        self.weights: list[NDArray[Any]] = policy.weights()  # after the last step, without reading each variable anew
        optimizer.build(policy.model.trainable_variables)
        inputs = policy.input_signature()
        sample = policy.distribution.sample(
            tf.zeros([1, policy.distribution.parameter_size]), tf.zeros([1, policy.spec.noise_size])
        )
        rows = [None] if policy.memory is None else [None, None]
        signature = [
            tf.TensorSpec([*rows, *policy.spec.layout.shape], inputs["observation"].dtype, "observation"),
            tf.TensorSpec([*rows, *sample.shape[1:]], sample.dtype, "sample"),
            tf.TensorSpec(rows, tf.float32, "advantage"),
            tf.TensorSpec(rows, tf.float32, "real"),
            tf.TensorSpec([], tf.float32, "episodes"),
        ]
        # Traced here and once, so that the first step takes no longer than the others. Called as a concrete function on
        # tensors, a step takes half as long as through tf.function's dispatch.
        self._step = tf.function(
            self._gradient_step, signature, jit_compile=jit_compile or None
        ).get_concrete_function()

    def set_entropy_bonus(self, weight: float) -> None:
        """Changes the weight of the entropy, if there is one at all, for the steps to come."""
        if self._entropy_bonus is not None:
            self._entropy_bonus.assign(weight)

    def __call__(self, trajectory: Trajectory, advantage: NDArray[np.float64]) -> StepMetrics:
        """Takes the step; ``advantage`` is ``[T, B]`` as :func:`pgkeras.estimator.advantages` gives it."""
        return self.apply(self.batch(trajectory, advantage))

    def batch(self, trajectory: Trajectory, advantage: NDArray[np.float64]) -> list[tf.Tensor]:
        """What :meth:`apply` takes: the batch as tensors, on the device."""
        mask = trajectory.mask
        batch = [trajectory.observations, trajectory.samples, advantage.astype(np.float32), mask.astype(np.float32)]
        if self._policy.memory is None:
            batch = [array[mask] for array in batch]
        else:
            batch[2] = np.where(mask, batch[2], np.float32(0))
        if self._pad:
            size = 1 << (len(batch[0]) - 1).bit_length()
            batch = [np.concatenate([a, np.zeros((size - len(a), *a.shape[1:]), a.dtype)]) for a in batch]
        return [tf.constant(array) for array in (*batch, np.float32(len(trajectory.lengths)))]

    def apply(self, batch: list[tf.Tensor]) -> StepMetrics:
        """Takes the step on a :meth:`batch`."""
        metrics, *weights = self._step(*batch)
        self.weights = [weight.numpy() for weight in weights]
        return StepMetrics(*metrics.numpy().tolist())

    def _gradient_step(
        self, observation: tf.Tensor, sample: tf.Tensor, advantage: tf.Tensor, real: tf.Tensor, episodes: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        self.traces += 1
        variables = self._policy.model.trainable_variables
        distribution = self._policy.distribution
        if self._policy.memory is not None:
            sample, advantage, real = (tf.reshape(x, [-1, *x.shape[2:]]) for x in (sample, advantage, real))
        with tf.GradientTape() as tape:
            parameters = self._parameters(observation)
            entropy = tf.reduce_sum(distribution.entropy(parameters) * real)
            log_prob = distribution.log_prob(parameters, sample)
            loss = reinforce_loss(log_prob, advantage, episodes)
            if self._entropy_bonus is not None:
                loss -= self._entropy_bonus * entropy / episodes
        gradients = tape.gradient(loss, variables)
        norm = tf.linalg.global_norm(gradients)
        if self._clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self._clip_norm, use_norm=norm)
        self.optimizer.apply(gradients, variables)
        kl = tf.constant(float("nan"))
        if self._measure_kl:
            moved = distribution.log_prob(self._parameters(observation), sample)
            kl = kl_divergence(log_prob, moved, real)
        metrics = tf.stack([loss, entropy / tf.reduce_sum(real), norm, kl])
        return metrics, *(tf.identity(variable) for variable in self._policy.variables)

    def _parameters(self, observation: tf.Tensor) -> tf.Tensor:
        """The distribution's parameters of all steps, ``[N, P]``."""
        if self._policy.memory is None:
            return self._policy.parameters(observation, training=True)
        return self._policy.parameters_of_episodes(observation)
