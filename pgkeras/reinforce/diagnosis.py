"""Diagnosis: finds the origin of a NaN or an infinity in a gradient step.

It recomputes the quantities of the step one by one, with the weights from before the step, and names the first one that
is not finite. It runs only after training has failed, so it adds no cost to a normal step.
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
from pgkeras.reinforce.batch import Batch, batch_arrays
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
    """Returns the name and the position of the first quantity that is not finite.

    Args:
        policy: The policy. Its weights are restored afterwards.
        weights: The policy's weights before the step.
        trajectory: The episodes.
        advantages: Their advantages.
        baseline: The baseline of these advantages.
    """
    with policy.with_weights(weights):
        for name, weight in zip(policy.names, weights, strict=True):
            if not np.isfinite(weight).all():
                return f"weight {name} is not finite before the gradient step"
        for name, array in _quantities(policy, trajectory, advantages, baseline):
            if (found := _first_nonfinite(array, trajectory.mask)) is not None:
                return f"{name} {found}"
        return _explain_gradient(policy, trajectory, advantages)


def _quantities(
    policy: Policy,
    trajectory: Trajectory,
    advantages: Advantages,
    baseline: NoBaseline,
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yields names and values, in the order of computation: ``[T, B, ...]`` of steps or ``[B, ...]`` of episodes."""
    mask = trajectory.mask
    yield "observation", trajectory.observations
    yield "reward", trajectory.rewards
    yield from baseline.quantities(trajectory)
    yield "return", advantages.returns
    yield "advantage", advantages.values
    parameters = _parameters(policy, trajectory)
    yield "the network's output", _scatter(parameters.numpy(), mask)
    sample = tf.constant(trajectory.samples[mask])
    yield "log-probability", _scatter(policy.distribution.log_prob(parameters, sample).numpy(), mask)
    yield "entropy", _scatter(policy.distribution.entropy(parameters).numpy(), mask)


def _explain_gradient(policy: Policy, trajectory: Trajectory, advantages: Advantages) -> str:
    variables = policy.model.trainable_variables
    batch = Batch.of(batch_arrays(policy, trajectory, advantages.values), len(trajectory.lengths))
    sums, _, gradients = policy_gradient(policy, batch)
    loss = float(sums.loss)
    if not np.isfinite(loss):
        return f"the loss is {loss}: all log-probabilities and advantages are finite, but their sum overflows"
    for variable, gradient in zip(variables, gradients, strict=True):
        if not np.isfinite(gradient.numpy()).all():
            return f"the gradient of {variable.path} is not finite"
    norm = tf.linalg.global_norm(gradients).numpy()
    if not np.isfinite(norm):
        return f"the gradient's global norm is {norm}: its square overflows"
    return "the gradient is finite, but the weights after the optimizer's step are not"


def _parameters(policy: Policy, trajectory: Trajectory) -> tf.Tensor:
    """Computes the distribution's parameters for all real steps, ``[N, P]``."""
    mask = trajectory.mask
    steps = policy.unroll(tf.constant(policy.batch(trajectory.observations, mask)))
    return tf.boolean_mask(steps, policy.batch(mask, mask).ravel())


def _scatter(rows: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[Any]:
    """Returns an array ``[T, B, ...]`` with the rows ``[N, ...]`` at the real steps, and 0 in padding."""
    array = np.zeros((*mask.shape, *rows.shape[1:]), rows.dtype)
    array[mask] = rows
    return array


def _first_nonfinite(array: NDArray[Any], mask: NDArray[np.bool_]) -> str | None:
    """Describes the first number that is not finite, and its position. Returns None if there is none in real steps."""
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
