"""REINFORCE, phase two: from whole episodes to one gradient step.

The algorithm (Williams 1992; Sutton & Barto 2nd ed., section 13.3), in the order in which it runs:

1. With the policy frozen, play whole episodes by sampling: :mod:`pgkeras.environments.collect`.
2. Compute the discounted return ``R_t`` of every step: :func:`pgkeras.reinforce.returns.discounted_returns`.
3. Subtract a baseline ``b_t`` that does not depend on the action, if one is wanted: the advantage,
   :func:`pgkeras.reinforce.estimator.advantages`.
4. Loss: ``-sum_t log P(a_t | s_t) * (R_t - b_t)``, averaged over the episodes: :func:`reinforce_loss`.
5. One gradient step: :class:`TrainStep`. Then forget the episodes and begin again.

More than one step on a batch is another algorithm, for simulators whose steps are expensive: it is in
:mod:`pgkeras.reinforce.reuse`.
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
from pgkeras.reinforce.divergence import divergence
from pgkeras.reinforce.microbatch import (
    AccumulatedStep,
    Batch,
    Gradient,
    dense,
    micro_batches,
    packed_metrics,
    padded,
    rows_at_once,
    signature,
    whole_batch,
)
from pgkeras.reinforce.natural import Natural, NaturalGradient
from pgkeras.reinforce.replicas import Replicas, Share
from pgkeras.reinforce.reuse import MoreSteps, Reuse, surrogate_gradient

__all__ = ["Prepared", "StepMetrics", "TrainStep", "policy_gradient", "reinforce_loss"]


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


def policy_gradient(policy: Policy, batch: Batch, entropy_bonus: tf.Tensor | None = None) -> Gradient:
    """The gradient of the loss on a batch: :func:`reinforce_loss` minus ``entropy_bonus`` times the entropy.

    The entropy, too, is summed over an episode's steps and averaged over episodes.
    """
    sample, advantage, real = (policy.flat(array) for array in (batch.sample, batch.advantage, batch.real))
    with tf.GradientTape() as tape:
        parameters = policy.unroll(batch.observation)
        entropy = tf.reduce_sum(policy.distribution.entropy(parameters) * real)
        log_prob = policy.distribution.log_prob(parameters, sample)
        loss = reinforce_loss(log_prob, advantage, batch.episodes)
        if entropy_bonus is not None:
            loss -= entropy_bonus * entropy / batch.episodes
    gradients = dense(tape, loss, policy.model.trainable_variables)
    return Gradient(tf.stack([loss, entropy, tf.reduce_sum(real)]), log_prob, gradients)


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
        entropy_bonus: Weight of the entropy in the loss; see :func:`policy_gradient`.
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
        if replicas is not None:
            moved = replicas.divergence(self._divergence) if measure_kl else None
            descend = replicas.everywhere(self._descend)
            self._accumulated_step = AccumulatedStep(replicas.gradient(self._policy_gradient), descend, moved)
            if reuse is not None:
                more = replicas.each(self._log_prob), replicas.gradient(partial(self._surrogate_gradient, reuse.clip))
                self._more_steps = MoreSteps(reuse, *more, descend)
            return
        inputs = signature(policy)
        states = () if natural is None else (inputs.observation, inputs.real)
        # Traced here and once, so that the first step takes no longer than the others. Called as a concrete function on
        # tensors, a step takes half as long as through tf.function's dispatch.
        compiled = partial(tf.function, autograph=False, jit_compile=jit_compile or None)
        self._step = compiled(self._gradient_step, [*inputs, *states]).get_concrete_function()
        after = [*inputs, tf.TensorSpec([None], tf.float32, "log_prob")]
        gradients = [tf.TensorSpec(variable.shape, variable.dtype) for variable in policy.model.trainable_variables]
        descend = tf.function(self._descend, [gradients, *states], autograph=False)
        self._accumulated_step = AccumulatedStep(  # traced when a batch has several parts
            compiled(self._policy_gradient, inputs),
            descend,
            compiled(self._divergence, after) if measure_kl else None,
        )
        if reuse is not None:
            surrogate = compiled(partial(self._surrogate_gradient, reuse.clip), after)
            self._more_steps = MoreSteps(reuse, compiled(self._log_prob, inputs), surrogate, descend)

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
        metrics, *weights = self._step(*parts[0], *states) if alone else self._accumulated_step(parts, states)
        loss, entropy, norm, moved = metrics.numpy().tolist()
        taken = 1
        if self._more_steps is not None and before is not None:
            taken, moved, again = self._more_steps(parts, before)
            weights = weights if again is None else again
        self.weights = [weight.numpy() for weight in weights]
        return StepMetrics(loss, entropy, norm, moved, taken)

    def _states(self, trajectory: Trajectory) -> Sequence[tf.Tensor]:
        if self._natural is None:
            return ()
        states = self._natural.states(trajectory, int(self.optimizer.iterations.numpy()))
        return tuple(map(tf.constant, padded(states) if self._pad else states))

    def _gradient_step(self, *batch_and_states: tf.Tensor) -> tuple[tf.Tensor, ...]:
        self.traces += 1
        batch, states = batch_and_states[: len(Batch._fields)], batch_and_states[len(Batch._fields) :]
        sums, log_prob, gradients = self._policy_gradient(*batch)
        norm, *weights = self._descend(gradients, *states)
        moved = self._divergence(*batch, log_prob) if self._measure_kl else None
        return packed_metrics(sums, norm, moved), *weights

    def _policy_gradient(self, *batch: tf.Tensor) -> Gradient:
        return policy_gradient(self._policy, Batch(*batch), self._entropy_bonus)

    def _descend(self, gradients: list[tf.Tensor], *states: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Moves the weights down the gradients; returns the gradients' norm and the weights afterwards.

        Args:
            gradients: By trainable variable.
            *states: Of natural gradients, the states that tell how far a step moves the policy.
        """
        norm = tf.linalg.global_norm(gradients)
        if self._clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self._clip_norm, use_norm=norm)
        if self._natural is not None:
            gradients, step_size = self._natural(gradients, *states)
            self.optimizer.learning_rate = step_size
        if self._replicas is not None:  # each replica has the total already, and Keras adds up those of all replicas
            gradients = [gradient / self._replicas.count for gradient in gradients]
        self.optimizer.apply(gradients, self._policy.model.trainable_variables)
        return norm, *(tf.identity(variable) for variable in self._policy.variables)

    def _log_prob(self, *batch: tf.Tensor) -> tf.Tensor:
        policy, of = self._policy, Batch(*batch)
        return policy.distribution.log_prob(policy.unroll(of.observation), policy.flat(of.sample))

    def _surrogate_gradient(self, clip: float, *batch_and_log_prob: tf.Tensor) -> Gradient:
        *batch, old = batch_and_log_prob
        return surrogate_gradient(self._policy, Batch(*batch), old, clip, self._entropy_bonus)

    def _divergence(self, *batch_and_log_prob: tf.Tensor) -> tf.Tensor:
        *batch, log_prob = batch_and_log_prob
        return divergence(self._policy, Batch(*batch), log_prob)
