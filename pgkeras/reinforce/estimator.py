"""The estimator: what the log-probability of every step is weighted with. Pure functions of whole episodes.

Which combinations estimate the policy gradient without bias, and what the others estimate, is in ``docs/estimator.md``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgkeras.environments.trajectory import Trajectory
from pgkeras.reinforce import returns as returns_
from pgkeras.reinforce.baselines import NO_BASELINE, NoBaseline

__all__ = ["Advantages", "advantages"]


class Advantages(NamedTuple):
    """The weight of each step's log-probability, and how good the baseline was."""

    values: NDArray[np.float64]  # [T, B]
    returns: NDArray[np.float64]  # [T, B] what the baseline was subtracted from
    explained_variance: float  # NaN without a baseline
    rms: float  # root mean square over real steps, before they were rescaled


def advantages(
    trajectory: Trajectory,
    gamma: float,
    baseline: NoBaseline = NO_BASELINE,
    *,
    rescale: bool = False,
    returns: str = "reward-to-go",
    discount_gradient: bool = False,
    reset_returns: bool = False,
) -> Advantages:
    """Steps 2 and 3 of the algorithm: ``R_t - b_t`` for every step.

    Args:
        trajectory: Whole episodes.
        gamma: Discount in [0, 1].
        baseline: What is subtracted from the returns.
        rescale: Whether to divide by the root mean square over the batch's real steps.
        returns: "reward-to-go" for the rewards from step t on, "episode" for those of the whole episode.
        discount_gradient: Whether to weight step t by ``gamma**t``.
        reset_returns: Whether a return ends with the first reward other than zero.
    """
    mask = trajectory.mask
    rewards, ends = baseline.rewards(trajectory, gamma), None
    if reset_returns:
        ends = trajectory.rewards != 0
        rewards = np.where(ends, trajectory.rewards, rewards)  # nor do they go on beyond a truncation there
    computed = returns_.discounted_returns(rewards, gamma, ends)
    if returns == "episode":
        computed = returns_.episode_returns(computed, mask)
    b = baseline.of(trajectory, computed)
    values = computed - b
    if discount_gradient:
        values = values * returns_.discounts(len(values), gamma)
    rms = returns_.root_mean_square(values, mask)
    if rescale:
        values = returns_.rescale(values, computed, mask)
    explained = returns_.explained_variance(computed, b, mask) if baseline.explains else float("nan")
    return Advantages(values, computed, explained, rms)
