"""The gradient step, compiled: on a batch at once or in parts, on one device or several, once or several times."""

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
from pgkeras.reinforce.batch import Batch, micro_batches, padded, rows_at_once, signature, whole_batch
from pgkeras.reinforce.kl import action_log_prob, policy_kl
from pgkeras.reinforce.natural import Natural, NaturalGradient
from pgkeras.reinforce.reinforce import Gradient, policy_gradient
from pgkeras.reinforce.replicas import Replicas, Share
from pgkeras.reinforce.reuse import MoreSteps, Reuse, surrogate_gradient

__all__ = ["Prepared", "StepMetrics", "TrainStep"]


class StepMetrics(NamedTuple):
    """The metrics of one gradient step."""

    loss: float
    entropy: float  # mean over real steps, nats
    gradient_norm: float  # before clipping
    kl: float  # KL(policy that played || policy now), mean over real steps; NaN if it is not measured
    gradient_steps: int  # on this batch


class Prepared(NamedTuple):
    """A batch as :meth:`TrainStep.apply` takes it."""

    parts: Sequence[Batch] | Sequence[Share]  # whose gradients are added up
    states: Sequence[tf.Tensor] = ()  # for natural gradients: what the Fisher information is computed from


class TrainStep:
    """Step 5: one gradient step on one batch of episodes.

    Args:
        policy: The policy whose network is trained.
        optimizer: Any Keras optimizer.
        clip_norm: Gradients of a larger global norm are scaled down to it; None leaves them alone.
        entropy_bonus: Weight of the entropy in the loss; see
            :func:`pgkeras.reinforce.reinforce.policy_gradient`.
        jit_compile: Whether to compile the step with XLA; batches are then padded to powers of two.
        measure_kl: Whether to measure how far the step moved the policy; takes one more forward pass.
        reuse: How often a batch is used; None for once, as REINFORCE does.
        natural: Settings of the natural gradient, which then replaces the plain one; None for the plain one.
        replicas: The devices that share the step, on which the policy was created; None for a single device.
    """

    def __init__(  # noqa: PLR0913 - each a choice of its own
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
        """Most steps whose gradient one device computes at once; None: as many as memory allows."""
        self._replicas = replicas
        self.optimizer = optimizer
        self._clip_norm = clip_norm
        self._entropy_bonus = tf.Variable(entropy_bonus, trainable=False, dtype=tf.float32) if entropy_bonus else None
        self._pad, self._measure_kl = jit_compile, measure_kl
        self._natural = None if natural is None else NaturalGradient(policy, natural, pad=jit_compile)
        self._more_steps: MoreSteps | None = None
        self.traces = 0
        self.weights: list[NDArray[np.float32]] = policy.weights()  # after the last step, without reading each variable
        optimizer.build(policy.model.trainable_variables)
        if replicas is None:
            self._compile(reuse)
        else:
            self._divide(replicas, reuse)

    def _compile(self, reuse: Reuse | None) -> None:
        """Compiles the step for a single device.

        It is traced here and once, so that the first step takes no longer than the others. Called as a concrete
        function on tensors, a step takes half as long as through the dispatch of ``tf.function``.
        """
        batch = signature(self._policy)
        states = () if self._natural is None else (batch.observation, batch.real)
        compiled = partial(tf.function, autograph=False, jit_compile=self._pad or None)
        self._step = compiled(self._gradient_step, [batch, *states]).get_concrete_function()
        with_log_prob = [batch, tf.TensorSpec([None], tf.float32, "log_prob")]
        variables = self._policy.model.trainable_variables
        gradients = [tf.TensorSpec(variable.shape, variable.dtype) for variable in variables]
        descend = tf.function(self._descend, [gradients, *states], autograph=False)
        self._accumulated_step = AccumulatedStep(  # traced when a batch has several parts
            compiled(self._policy_gradient, [batch]),
            descend,
            compiled(self._policy_kl, with_log_prob) if self._measure_kl else None,
        )
        if reuse is not None:
            surrogate = compiled(partial(self._surrogate_gradient, reuse.clip), with_log_prob)
            self._more_steps = MoreSteps(reuse, compiled(self._log_prob, [batch]), surrogate, descend)

    def _divide(self, replicas: Replicas, reuse: Reuse | None) -> None:
        """Divides the step among devices."""
        policy_kl_ = replicas.summed(self._policy_kl) if self._measure_kl else None
        descend = replicas.everywhere(self._descend)
        self._accumulated_step = AccumulatedStep(replicas.gradient(self._policy_gradient), descend, policy_kl_)
        if reuse is not None:
            surrogate = replicas.gradient(partial(self._surrogate_gradient, reuse.clip))
            self._more_steps = MoreSteps(reuse, replicas.each(self._log_prob), surrogate, descend)

    def set_entropy_bonus(self, weight: float) -> None:
        """Changes the weight of the entropy, if there is one at all, for the steps to come."""
        if self._entropy_bonus is not None:
            self._entropy_bonus.assign(weight)

    def set_target_kl(self, target: float) -> None:
        """Changes how far natural gradients move the policy, if they do, in the steps to come."""
        if self._natural is not None:
            self._natural.target_kl.assign(target)

    def __call__(self, trajectory: Trajectory, advantage: NDArray[np.float64]) -> StepMetrics:
        """Takes the step; ``advantage`` is ``[T, B]`` as :func:`pgkeras.reinforce.estimator.advantages` gives it."""
        return self.apply(self.batch(trajectory, advantage))

    def batch(self, trajectory: Trajectory, advantage: NDArray[np.float64]) -> Prepared:
        """Prepares a batch for :meth:`apply`: on the device, or in parts if it is too large for one gradient."""
        policy, states = self._policy, self._states(trajectory)
        if self._replicas is None:
            return Prepared(micro_batches(policy, trajectory, advantage, self.rows, self._pad), states)
        rows = self.rows or rows_at_once(policy.spec.layout)
        arrays = whole_batch(policy, trajectory, advantage)
        return Prepared(self._replicas.batches(arrays, len(trajectory.lengths), rows, policy.batch_axes - 1), states)

    def apply(self, batch: Prepared) -> StepMetrics:
        """Takes the step on a :meth:`batch`."""
        parts, states = batch
        alone = self._replicas is None and len(parts) == 1
        before = None if self._more_steps is None else self._more_steps.before(parts)
        metrics, *weights = self._step(parts[0], *states) if alone else self._accumulated_step(parts, states)
        loss, entropy, norm, kl = metrics.numpy().tolist()
        steps = 1
        if self._more_steps is not None and before is not None:
            steps, kl, later = self._more_steps(parts, before)
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
        """Moves the weights down the gradients; returns the gradients' norm and the weights afterwards.

        Args:
            gradients: By trainable variable.
            *states: Of natural gradients, the states that tell how far a step moves the policy.
        """
        norm = tf.linalg.global_norm(gradients)
        if self._natural is not None:  # how long its steps are does not depend on the gradient's norm
            gradients, step_size = self._natural(gradients, *states)
            self.optimizer.learning_rate = step_size
        elif self._clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self._clip_norm, use_norm=norm)
        if self._replicas is not None:  # each replica has the total already, and Keras adds up those of all replicas
            gradients = [gradient / self._replicas.count for gradient in gradients]
        self.optimizer.apply(gradients, self._policy.model.trainable_variables)
        return norm, *(tf.identity(variable) for variable in self._policy.variables)

    def _log_prob(self, batch: Batch) -> tf.Tensor:
        return action_log_prob(self._policy, batch)

    def _surrogate_gradient(self, clip: float, batch: Batch, old: tf.Tensor) -> Gradient:
        return surrogate_gradient(self._policy, batch, old, clip, self._entropy_bonus)

    def _policy_kl(self, batch: Batch, old: tf.Tensor) -> tf.Tensor:
        return policy_kl(self._policy, batch, old)
