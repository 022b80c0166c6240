"""The compiled gradient step.

It takes a batch whole or in parts, runs on one device or several, and can be repeated on the same batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgkeras.backend import keras, tf
from pgkeras.environments.trajectory import Trajectory
from pgkeras.policy.policy import Policy
from pgkeras.reinforce.accumulation import AccumulatedStep, packed_metrics
from pgkeras.reinforce.batch import Batch, batch_arrays, micro_batches, padded, rows_at_once, signature
from pgkeras.reinforce.kl import action_log_prob, policy_kl
from pgkeras.reinforce.natural import Natural, NaturalGradient
from pgkeras.reinforce.reinforce import Gradient, policy_gradient
from pgkeras.reinforce.replicas import LocalBatches, Replicas
from pgkeras.reinforce.reuse import Reuse, ReusedSteps, surrogate_gradient

__all__ = ["Prepared", "StepMetrics", "TrainStep"]


class StepMetrics(NamedTuple):
    """Metrics of the gradient steps on one batch."""

    loss: float
    entropy: float  # mean over real steps, nats
    gradient_norm: float  # before clipping
    kl: float  # KL(policy before || policy after), mean over real steps; NaN if not measured
    gradient_steps: int  # on this batch


class Prepared(NamedTuple):
    """A batch in the form that :meth:`TrainStep.apply` takes."""

    parts: Sequence[Batch] | Sequence[LocalBatches]  # their gradients are added up
    states: Sequence[tf.Tensor] = ()  # natural gradients only: the states for the Fisher information


class TrainStep:
    """Step 5: one gradient step on one batch of episodes.

    Args:
        policy: The policy to train.
        optimizer: Any Keras optimizer.
        clip_norm: Maximum global norm: larger gradients are scaled down to it. None disables clipping.
        entropy_bonus: Weight of the entropy in the loss; see
            :func:`pgkeras.reinforce.reinforce.policy_gradient`.
        jit_compile: Whether to compile the step with XLA. Batches are then padded to powers of two.
        measure_kl: Whether to measure the KL divergence of each step, which takes one more forward pass.
        reuse: Settings for several gradient steps per batch; None for one step, as in REINFORCE.
        natural: Settings of the natural gradient; None for the plain gradient.
        replicas: The devices that share the step, on which the policy was created; None for a single device.
    """

    def __init__(  # noqa: PLR0913 - the arguments are independent options
        self,
        policy: Policy,
        optimizer: keras.optimizers.Optimizer,
        *,
        clip_norm: float | None = None,
        entropy_bonus: float = 0.0,
        jit_compile: bool = False,
        measure_kl: bool = False,
        reuse: Reuse | None = None,
        natural: Natural | None = None,
        replicas: Replicas | None = None,
    ) -> None:
        self._policy = policy
        self.rows: int | None = None
        """Maximum number of steps whose gradient one device computes at once; None for a limit that fits the memory."""
        self._replicas = replicas
        self.optimizer = optimizer
        self._clip_norm = clip_norm
        self._entropy_bonus = tf.Variable(entropy_bonus, trainable=False, dtype=tf.float32) if entropy_bonus else None
        self._pad, self._measure_kl = jit_compile, measure_kl
        self._natural = None if natural is None else NaturalGradient(policy, natural, pad=jit_compile)
        self._reused_steps: ReusedSteps | None = None
        self.traces = 0
        self.weights: list[NDArray[np.float32]] = policy.weights()  # after the last step; saves reading each variable
        optimizer.build(policy.model.trainable_variables)
        if replicas is None:
            self._compile(reuse)
        else:
            self._distribute(replicas, reuse)

    def _compile(self, reuse: Reuse | None) -> None:
        """Compiles the step for a single device.

        The step is traced here, once, so the first call is not slower than the others. A call of the concrete function
        on tensors takes half as long as a call through the dispatch of ``tf.function``.
        """
        batch = signature(self._policy)
        states = () if self._natural is None else (batch.observation, batch.real)
        compiled = partial(tf.function, autograph=False, jit_compile=self._pad or None)
        self._step = compiled(self._gradient_step, [batch, *states]).get_concrete_function()
        with_log_prob = [batch, tf.TensorSpec([None], tf.float32, "log_prob")]
        variables = self._policy.model.trainable_variables
        gradients = [tf.TensorSpec(variable.shape, variable.dtype) for variable in variables]
        descend = tf.function(self._descend, [gradients, *states], autograph=False)
        self._accumulated_step = AccumulatedStep(  # traced at the first batch with several parts
            compiled(self._policy_gradient, [batch]),
            descend,
            compiled(self._policy_kl, with_log_prob) if self._measure_kl else None,
        )
        if reuse is not None:
            surrogate = compiled(partial(self._surrogate_gradient, reuse.clip), with_log_prob)
            self._reused_steps = ReusedSteps(reuse, compiled(self._log_prob, [batch]), surrogate, descend)

    def _distribute(self, replicas: Replicas, reuse: Reuse | None) -> None:
        """Compiles the step for several devices."""
        policy_kl_ = replicas.summed(self._policy_kl) if self._measure_kl else None
        descend = replicas.on_all(self._descend)
        self._accumulated_step = AccumulatedStep(replicas.gradient(self._policy_gradient), descend, policy_kl_)
        if reuse is not None:
            surrogate = replicas.gradient(partial(self._surrogate_gradient, reuse.clip))
            self._reused_steps = ReusedSteps(reuse, replicas.per_replica(self._log_prob), surrogate, descend)

    def set_entropy_bonus(self, weight: float) -> None:
        """Sets the weight of the entropy for later steps. Does nothing if the step was created with a weight of 0."""
        if self._entropy_bonus is not None:
            self._entropy_bonus.assign(weight)

    def set_target_kl(self, target: float) -> None:
        """Sets the KL divergence that later natural gradient steps aim at. Does nothing for plain gradients."""
        if self._natural is not None:
            self._natural.target_kl.assign(target)

    def __call__(self, trajectory: Trajectory, advantage: NDArray[np.float64]) -> StepMetrics:
        """Takes the step, with advantages ``[T, B]`` from :func:`pgkeras.reinforce.estimator.advantages`."""
        return self.apply(self.batch(trajectory, advantage))

    def batch(self, trajectory: Trajectory, advantage: NDArray[np.float64]) -> Prepared:
        """Prepares a batch for :meth:`apply`: copies it to the device, or splits it if it is too large for one pass."""
        policy, states = self._policy, self._states(trajectory)
        if self._replicas is None:
            return Prepared(micro_batches(policy, trajectory, advantage, self.rows, self._pad), states)
        rows = self.rows or rows_at_once(policy.spec.layout)
        arrays = batch_arrays(policy, trajectory, advantage)
        return Prepared(self._replicas.batches(arrays, len(trajectory.lengths), rows, policy.batch_axes - 1), states)

    def apply(self, batch: Prepared) -> StepMetrics:
        """Takes the step on a :meth:`batch`."""
        parts, states = batch
        is_whole = self._replicas is None and len(parts) == 1
        old_log_probs = None if self._reused_steps is None else self._reused_steps.log_probs(parts)
        metrics, *weights = self._step(parts[0], *states) if is_whole else self._accumulated_step(parts, states)
        loss, entropy, norm, kl = metrics.numpy().tolist()
        steps = 1
        if self._reused_steps is not None and old_log_probs is not None:
            steps, kl, later = self._reused_steps(parts, old_log_probs)
            weights = weights if later is None else later
        self.weights = [weight.numpy() for weight in weights]
        return StepMetrics(loss, entropy, norm, kl, steps)

    def _states(self, trajectory: Trajectory) -> Sequence[tf.Tensor]:
        if self._natural is None:
            return ()
        states = self._natural.states(trajectory, int(self.optimizer.iterations.numpy()))
        return tuple(map(tf.constant, padded(states) if self._pad else states))

    def _gradient_step(self, batch: Batch, *states: tf.Tensor) -> tuple[tf.Tensor, ...]:
        self.traces += 1
        found = self._policy_gradient(batch)
        norm, *weights = self._descend(found.gradients, *states)
        kl = self._policy_kl(batch, found.log_prob) if self._measure_kl else None
        return packed_metrics(found.sums, norm, kl), *weights

    def _policy_gradient(self, batch: Batch) -> Gradient:
        return policy_gradient(self._policy, batch, self._entropy_bonus)

    def _descend(self, gradients: list[tf.Tensor], *states: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Applies the gradients; returns their norm before clipping, and the weights after the step.

        Args:
            gradients: One per trainable variable.
            *states: For natural gradients, the states for the Fisher information and their mask.
        """
        norm = tf.linalg.global_norm(gradients)
        if self._natural is not None:  # not clipped, because the step's length does not depend on the gradient's norm
            gradients, step_size = self._natural(gradients, *states)
            self.optimizer.learning_rate = step_size
        elif self._clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self._clip_norm, use_norm=norm)
        if self._replicas is not None:  # each replica has the total gradient, and Keras sums over the replicas again
            gradients = [gradient / self._replicas.count for gradient in gradients]
        self.optimizer.apply(gradients, self._policy.model.trainable_variables)
        return norm, *(tf.identity(variable) for variable in self._policy.variables)

    def _log_prob(self, batch: Batch) -> tf.Tensor:
        return action_log_prob(self._policy, batch)

    def _surrogate_gradient(self, clip: float, batch: Batch, old: tf.Tensor) -> Gradient:
        return surrogate_gradient(self._policy, batch, old, clip, self._entropy_bonus)

    def _policy_kl(self, batch: Batch, old: tf.Tensor) -> tf.Tensor:
        return policy_kl(self._policy, batch, old)
