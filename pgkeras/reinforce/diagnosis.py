"""Diagnosis: where a number that is not finite came from, when a gradient step met one.

The quantities of the step are computed again, one after the other, with the weights from before it, and the first that
is not finite is named. This happens once, when training has failed already, so that it costs nothing before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.backend import tf
from pgkeras.environments.trajectory import Trajectory
from pgkeras.policy.policy import Policy
from pgkeras.reinforce.baselines import NoBaseline
from pgkeras.reinforce.batch import Batch, whole_batch
from pgkeras.reinforce.estimator import Advantages
from pgkeras.reinforce.reinforce import policy_gradient

__all__ = ["explain_nonfinite"]


def explain_nonfinite(
    policy: Policy,
    weights: list[NDArray[Any]],
    trajectory: Trajectory,
    advantages: Advantages,
    baseline: NoBaseline,
) -> str:
    """Names the first quantity that is not finite, and where.

    Args:
        policy: The policy, whose own weights are put back afterwards.
        weights: What they were before the step.
        trajectory: The episodes.
        advantages: What they were weighted with.
        baseline: What was subtracted from the returns.
    """
    with policy.with_weights(weights):
        for name, weight in zip(policy.names, weights, strict=True):
            if not np.isfinite(weight).all():
                return f"weight {name} is not finite before the gradient step"
        for name, array in _quantities(policy, trajectory, advantages, baseline):
            if (where := _first(array, trajectory.mask)) is not None:
                return f"{name} {where}"
        return _gradient(policy, trajectory, advantages)


def _quantities(
    policy: Policy,
    trajectory: Trajectory,
    advantages: Advantages,
    baseline: NoBaseline,
) -> Iterator[tuple[str, NDArray[Any]]]:
    """By name, in the order of their computation: arrays ``[T, B, ...]``, or ``[B, ...]`` of episodes."""
    mask = trajectory.mask
    yield "observation", trajectory.observations
    yield "reward", trajectory.rewards
    yield from baseline.quantities(trajectory)
    yield "return", advantages.returns
    yield "advantage", advantages.values
    parameters = _parameters(policy, trajectory)
    yield "the network's output", _spread(parameters.numpy(), mask)
    sample = tf.constant(trajectory.samples[mask])
    yield "log-probability", _spread(policy.distribution.log_prob(parameters, sample).numpy(), mask)
    yield "entropy", _spread(policy.distribution.entropy(parameters).numpy(), mask)


def _gradient(policy: Policy, trajectory: Trajectory, advantages: Advantages) -> str:
    variables = policy.model.trainable_variables
    batch = Batch.of(whole_batch(policy, trajectory, advantages.values), len(trajectory.lengths))
    sums, _, gradients = policy_gradient(policy, batch)
    loss = float(sums.loss)
    if not np.isfinite(loss):
        return f"the loss is {loss}, though every log-probability and advantage is finite: their sum overflows"
    for variable, gradient in zip(variables, gradients, strict=True):
        if not np.isfinite(gradient.numpy()).all():
            return f"the gradient of {variable.path} is not finite"
    norm = tf.linalg.global_norm(gradients).numpy()
    if not np.isfinite(norm):
        return f"the gradient's global norm is {norm}: its square overflows"
    return "the optimizer's step left weights that are not finite, from a gradient that is"


def _parameters(policy: Policy, trajectory: Trajectory) -> tf.Tensor:
    """The distribution's parameters of all real steps, ``[N, P]``."""
    mask = trajectory.mask
    steps = policy.unroll(tf.constant(policy.batch(trajectory.observations, mask)))
    return tf.boolean_mask(steps, policy.batch(mask, mask).ravel())


def _spread(rows: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[Any]:
    """Rows ``[N, ...]`` of real steps at their places ``[T, B, ...]``."""
    array = np.zeros((*mask.shape, *rows.shape[1:]), rows.dtype)
    array[mask] = rows
    return array


def _first(array: NDArray[Any], mask: NDArray[np.bool_]) -> str | None:
    """Where the first number of a real step is that is not finite, and what it is."""
    if np.isfinite(array).all():
        return None
    if array.shape[:2] == mask.shape:
        rows = np.isfinite(array).reshape(*mask.shape, -1).all(axis=-1) | ~mask
        if rows.all():
            return None
        step, episode = np.argwhere(~rows)[0]
        row, place = array[step, episode], f"at step {step} of episode {episode} of this epoch"
    else:
        episode = int(np.argwhere(~np.isfinite(array).reshape(len(array), -1).all(axis=-1))[0, 0])
        row, place = array[episode], f"of episode {episode} of this epoch"
    bad = np.ravel(row)[~np.isfinite(np.ravel(row))][0]
    return f"is {bad} {place}"
