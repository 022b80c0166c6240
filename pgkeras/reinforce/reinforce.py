"""REINFORCE, phase two: from whole episodes to one gradient step.

The algorithm (Williams 1992; Sutton & Barto 2nd ed., section 13.3), in the order in which it runs:

1. With the policy frozen, play whole episodes by sampling: :mod:`pgkeras.environments.collect`.
2. Compute the discounted return ``R_t`` of every step: :func:`pgkeras.reinforce.returns.discounted_returns`.
3. Subtract a baseline ``b_t`` that does not depend on the action, if one is wanted: the advantage,
   :func:`pgkeras.reinforce.estimator.advantages`.
4. Loss: ``-sum_t log P(a_t | s_t) * (R_t - b_t)``, averaged over the episodes: :func:`reinforce_loss`.
5. One gradient step: :class:`TrainStep`. Then forget the episodes and begin again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgkeras.backend import keras, tf
from pgkeras.environments.trajectory import Trajectory
from pgkeras.policy.policy import Policy
from pgkeras.reinforce.microbatch import divided, padded

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
    """KL(old || new), the sum over real steps, from log-probabilities of samples of the old policy.

    The estimate is ``r - 1 - ln r`` with ``r = new / old``: its expectation is the divergence, it is never negative,
    and it needs no closed form (Schulman 2020, "Approximating KL divergence").

    Args:
        old: ``[N]``, log-probabilities under the policy that drew the samples.
        new: ``[N]``, under the other.
        real: ``[N]``, zero where a step is padding and one elsewhere.
    """
    log_ratio = new - old
    log_ratio.shape.assert_has_rank(1)
    return tf.reduce_sum((tf.exp(log_ratio) - 1.0 - log_ratio) * real)


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
        rows_at_once: Most steps of which the gradient is computed at once, but for whole episodes of a policy with
            memory, which are not divided; None for as many as memory allows for observations of this size.

    A policy without memory takes all real steps of a batch, flat, ``[N, ...]``; one with memory takes the episodes as
    they are, ``[T, B, ...]``, with their padding. Where a batch is too large for the memory, the gradients of its parts
    are added up one after the other.
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
        rows_at_once: int | None = None,
    ) -> None:
        self._policy = policy
        self._rows_at_once = rows_at_once or policy.spec.layout.rows_at_once
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
        compile_it = jit_compile or None
        self._step = tf.function(self._gradient_step, signature, jit_compile=compile_it).get_concrete_function()
        # The same in parts, traced when a batch is too large.
        self._part = tf.function(self._gradient, signature, jit_compile=compile_it)
        self._move_by = tf.function(self._move)
        self._moved = tf.function(
            self._divergence, [*signature[:2], signature[3], tf.TensorSpec([None], tf.float32)], jit_compile=compile_it
        )

    def set_entropy_bonus(self, weight: float) -> None:
        """Changes the weight of the entropy, if there is one at all, for the steps to come."""
        if self._entropy_bonus is not None:
            self._entropy_bonus.assign(weight)

    def __call__(self, trajectory: Trajectory, advantage: NDArray[np.float64]) -> StepMetrics:
        """Takes the step; ``advantage`` is ``[T, B]`` as :func:`pgkeras.reinforce.estimator.advantages` gives it."""
        return self.apply(self.batch(trajectory, advantage))

    def batch(self, trajectory: Trajectory, advantage: NDArray[np.float64]) -> list[Any]:
        """What :meth:`apply` takes: the batch as tensors, on the device; as arrays if it is too large for that."""
        mask = trajectory.mask
        batch = [trajectory.observations, trajectory.samples, advantage.astype(np.float32), mask.astype(np.float32)]
        if self._policy.memory is None:
            batch = [array[mask] for array in batch]
        else:
            batch[2] = np.where(mask, batch[2], np.float32(0))
        episodes = tf.constant(np.float32(len(trajectory.lengths)))
        if batch[2].size > self._rows_at_once:
            return [*batch, episodes]
        return [*self._tensors(batch), episodes]

    def apply(self, batch: list[Any]) -> StepMetrics:
        """Takes the step on a :meth:`batch`."""
        is_divided = isinstance(batch[0], np.ndarray)
        metrics, *weights = self._step_in_parts(*batch) if is_divided else self._step(*batch)
        self.weights = [weight.numpy() for weight in weights]
        return StepMetrics(*metrics.numpy().tolist())

    def _gradient_step(
        self, observation: tf.Tensor, sample: tf.Tensor, advantage: tf.Tensor, real: tf.Tensor, episodes: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        self.traces += 1
        sums, log_prob, *gradients = self._gradient(observation, sample, advantage, real, episodes)
        norm, *weights = self._move(gradients)
        divergence = self._divergence(observation, sample, real, log_prob)
        return self._metrics(sums, norm, divergence), *weights

    def _gradient(
        self, observation: tf.Tensor, sample: tf.Tensor, advantage: tf.Tensor, real: tf.Tensor, episodes: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        """Loss, entropy and number of steps, ``[3]``; log-probabilities ``[N]``; the gradient of each variable."""
        distribution = self._policy.distribution
        sample, advantage, real = (self._flat(x) for x in (sample, advantage, real))
        with tf.GradientTape() as tape:
            parameters = self._parameters(observation)
            entropy = tf.reduce_sum(distribution.entropy(parameters) * real)
            log_prob = distribution.log_prob(parameters, sample)
            loss = reinforce_loss(log_prob, advantage, episodes)
            if self._entropy_bonus is not None:
                loss -= self._entropy_bonus * entropy / episodes
        gradients = tape.gradient(loss, self._policy.model.trainable_variables)
        return tf.stack([loss, entropy, tf.reduce_sum(real)]), log_prob, *gradients

    def _move(self, gradients: list[tf.Tensor]) -> tuple[tf.Tensor, ...]:
        """Goes down the gradients; gives their norm and the weights afterwards."""
        norm = tf.linalg.global_norm(gradients)
        if self._clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self._clip_norm, use_norm=norm)
        self.optimizer.apply(gradients, self._policy.model.trainable_variables)
        return norm, *(tf.identity(variable) for variable in self._policy.variables)

    def _divergence(self, observation: tf.Tensor, sample: tf.Tensor, real: tf.Tensor, log_prob: tf.Tensor) -> tf.Tensor:
        """How far the policy is from the one that gave these log-probabilities, the sum over steps; NaN if unwanted."""
        if not self._measure_kl:
            return tf.constant(float("nan"))
        moved = self._policy.distribution.log_prob(self._parameters(observation), self._flat(sample))
        return kl_divergence(log_prob, moved, self._flat(real))

    def _metrics(self, sums: tf.Tensor, norm: tf.Tensor, divergence: tf.Tensor) -> tf.Tensor:
        loss, entropy, steps = tf.unstack(sums)
        return tf.stack([loss, entropy / steps, norm, divergence / steps])

    def _step_in_parts(self, *batch: Any) -> tuple[tf.Tensor, ...]:
        """What :meth:`_gradient_step` does, of arrays that are divided."""
        *arrays, episodes = batch
        parts = list(divided(arrays, self._rows_at_once, self._policy.memory is not None))
        totals: list[tf.Tensor] = []
        log_probs = []
        for part in parts:
            sums, log_prob, *gradients = self._part(*self._tensors(part), episodes)
            log_probs.append(log_prob)
            more = [sums, *map(tf.convert_to_tensor, gradients)]  # those of embeddings are sparse
            totals = [total + one for total, one in zip(totals, more, strict=True)] if totals else more
        sums, *gradients = totals
        norm, *weights = self._move_by(gradients)
        divergence = tf.zeros([])
        for part, log_prob in zip(parts, log_probs, strict=True):
            observation, sample, _, real = self._tensors(part)
            divergence += self._moved(observation, sample, real, log_prob)
        return self._metrics(sums, norm, divergence), *weights

    def _tensors(self, arrays: Sequence[NDArray[Any]]) -> list[tf.Tensor]:
        return [tf.constant(array) for array in (padded(arrays) if self._pad else arrays)]

    def _flat(self, array: tf.Tensor) -> tf.Tensor:
        """One row a step."""
        return array if self._policy.memory is None else tf.reshape(array, [-1, *array.shape[2:]])

    def _parameters(self, observation: tf.Tensor) -> tf.Tensor:
        """The distribution's parameters of all steps, ``[N, P]``."""
        if self._policy.memory is None:
            return self._policy.parameters(observation, training=True)
        return self._policy.parameters_of_episodes(observation)
