"""The estimator: what the log-probability of every step is weighted with. Pure functions of whole episodes.

Which combinations estimate the policy gradient without bias, and what the others estimate, is in ``docs/estimator.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgkeras.environments.trajectory import Trajectory
from pgkeras.reinforce import returns as returns_

__all__ = ["Advantages", "advantages"]


class Advantages(NamedTuple):
    """The weight of each step's log-probability, and how good the baseline was."""

    values: NDArray[np.float64]  # [T, B]
    returns: NDArray[np.float64]  # [T, B] what the baseline was subtracted from
    explained_variance: float  # NaN without a baseline


def advantages(
    trajectory: Trajectory,
    gamma: float,
    baseline: str = "none",
    rescale: bool = False,
    value: Callable[[NDArray[Any]], NDArray[np.float64]] | None = None,
    *,
    returns: str = "reward-to-go",
    discount_gradient: bool = False,
    running_mean: float = 0.0,
) -> Advantages:
    """Steps 2 and 3 of the algorithm: ``R_t - b_t`` for every step.

    Args:
        trajectory: Whole episodes.
        gamma: Discount in [0, 1].
        baseline: A key of :data:`pgkeras.reinforce.returns.BASELINES`, "running-mean" for ``running_mean``, or
            "value" for what ``value`` predicts.
        rescale: Whether to divide by the root mean square over the batch's real steps.
        value: Expected returns ``[N]`` of observations ``[N, ...]``. When given, a truncated episode's return goes on
            with that of its last observation; otherwise it ends there, as if the episode had.
        returns: "reward-to-go" for the rewards from step t on, "episode" for those of the whole episode.
        discount_gradient: Whether to weight step t by ``gamma**t``.
        running_mean: Mean return of earlier batches.
    """
    mask = trajectory.mask
    rewards = trajectory.rewards
    if value is not None:
        rewards = returns_.bootstrapped(
            rewards, trajectory.lengths, ~trajectory.terminated, gamma, value(trajectory.final_observations)
        )
    computed = returns_.discounted_returns(rewards, gamma)
    if returns == "episode":
        computed = returns_.episode_returns(computed, mask)
    if baseline == "value":
        assert value is not None
        b = np.zeros_like(computed)
        b[mask] = value(trajectory.observations[mask])
    elif baseline == "running-mean":
        b = np.where(mask, running_mean, 0.0)
    else:
        b = returns_.BASELINES[baseline](computed, mask)
    values = computed - b
    if discount_gradient:
        values = values * returns_.discounts(len(values), gamma)
    if rescale:
        values = returns_.rescale(values, computed, mask)
    explained = float("nan") if baseline == "none" else returns_.explained_variance(computed, b, mask)
    return Advantages(values, computed, explained)
