"""The estimator: the advantages by which the log-probabilities are weighted. Pure functions of whole episodes.

``docs/estimator.md`` lists which combinations of settings are unbiased estimates of the policy gradient, and what the
others estimate.
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
    """The advantages of a batch, and the returns they were computed from."""

    values: NDArray[np.float64]  # [T, B] weights of the log-probabilities
    returns: NDArray[np.float64]  # [T, B] before the baseline was subtracted
    explained_variance: float  # of the returns, by the baseline; NaN without one
    rms: float  # root mean square of the advantages over real steps, before rescaling


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
    """Computes steps 2 and 3 of the algorithm: the advantage ``R_t - b_t`` of every step.

    Args:
        trajectory: Whole episodes.
        gamma: Discount in [0, 1].
        baseline: The baseline ``b_t``.
        rescale: Whether to divide the advantages by their root mean square over the batch's real steps.
        returns: "reward-to-go": the return of step t sums the rewards from t on. "episode": it sums the rewards of the
            whole episode.
        discount_gradient: Whether to multiply the advantage of step t by ``gamma**t``.
        reset_returns: Whether each return stops at the first nonzero reward, inclusive.
    """
    mask = trajectory.mask
    rewards, ends = baseline.rewards(trajectory, gamma), None
    if reset_returns:
        ends = trajectory.rewards != 0
        rewards = np.where(ends, trajectory.rewards, rewards)  # removes the bootstrapped value from such a last step
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
