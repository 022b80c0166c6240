"""Returns and baselines: pure functions of rewards ``[T, B]`` and a mask ``[T, B]`` that is true for real steps.

Sources: Williams 1992, "Simple statistical gradient-following algorithms for connectionist reinforcement learning";
Sutton & Barto 2018, "Reinforcement learning: an introduction", 2nd ed., sections 3.3 and 13.3-13.4.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "bootstrapped",
    "discounted_returns",
    "discounts",
    "episode_returns",
    "explained_variance",
    "leave_one_out_baseline",
    "rescale",
    "root_mean_square",
    "running_mean",
    "time_baseline",
]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def discounted_returns(rewards: Floats, gamma: float, ends: Mask | None = None) -> Floats:
    """Computes the return of every step: ``R_t = r_t + gamma * R_{t+1}``, ``R_T = 0`` (Sutton & Barto, equation 3.9).

    Args:
        rewards: ``[T, B]``, 0 in padding, because rewards in padding would add to the returns before it.
        gamma: Discount in [0, 1].
        ends: ``[T, B]``, true where ``R_t = r_t``: returns stop at these steps. None if there are no such steps.

    Returns:
        ``[T, B]``, the returns.
    """
    if rewards.ndim != 2:
        raise ValueError(f"discounted_returns: rewards must be [T, B], got shape {rewards.shape}")
    # Doubling: if R_t sums the next n rewards, then R_t + gamma^n * R_{t+n} sums the next 2n. This takes log2(T) passes
    # over whole arrays. The recursion would take T iterations in Python.
    returns = rewards
    discount = None if ends is None else np.where(ends, 0.0, gamma)  # of the next n steps; 0 if an end is among them
    n = 1
    while n < len(rewards):
        doubled = returns.copy()
        doubled[:-n] += (gamma**n if discount is None else discount[:-n]) * returns[n:]
        if discount is not None:
            discount = np.concatenate([discount[:-n] * discount[n:], discount[-n:]])
        returns = doubled
        n *= 2
    return returns


def episode_returns(returns: Floats, mask: Mask) -> Floats:
    """Returns the whole episode's return at every step: ``R_t = R_0``, as in episodic REINFORCE (Williams 1992).

    The rewards before step t do not depend on its action. They add variance to the gradient, but do not change its
    expectation. With gamma below 1 this is the gradient of the discounted return without :func:`discounts`, because
    every reward is already discounted from the start of the episode.

    Args:
        returns: ``[T, B]`` from :func:`discounted_returns`.
        mask: ``[T, B]``.
    """
    return np.where(mask, returns[0], 0.0)


def discounts(steps: int, gamma: float) -> Floats:
    """Returns ``gamma**t``, ``[T, 1]``: the weight of step t in the gradient of the discounted return.

    The gradient of ``E[sum_t gamma**t r_t]`` is ``E[sum_t gamma**t R_t grad log P(a_t | s_t)]`` (Sutton & Barto, p.
    328). Most implementations omit the factor ``gamma**t``, which gives late steps the same weight as early ones. The
    expectation is then not the gradient of any objective (Nota & Thomas 2020, "Is the policy gradient a gradient?").
    """
    return np.power(gamma, np.arange(steps, dtype=np.float64))[:, np.newaxis]


def bootstrapped(
    rewards: Floats, lengths: NDArray[np.int64], truncated: NDArray[np.bool_], gamma: float, final_values: Floats
) -> Floats:
    """Returns the rewards with ``gamma V(s_T)`` added to the last reward of each truncated episode.

    Terminal episodes are not bootstrapped, even if they were truncated at the same step (Pardo et al. 2018, "Time
    limits in reinforcement learning").

    Args:
        rewards: ``[T, B]``.
        lengths: ``[B]``, steps of each episode.
        truncated: ``[B]``, true for episodes that were cut off before a terminal state.
        gamma: Discount in [0, 1].
        final_values: ``[B]``, V of each episode's final observation.
    """
    extended = rewards.copy()
    extended[lengths - 1, np.arange(len(lengths))] += np.where(truncated, gamma * final_values, 0.0)
    return extended


def time_baseline(returns: Floats, mask: Mask) -> Floats:
    """Computes the mean return of all episodes that reach step t: ``b_t = sum_i m_ti R_ti / sum_i m_ti``.

    The mean includes the episode's own return. If ``n`` episodes reach step t, the advantage is therefore ``(n - 1) /
    n`` times that of :func:`leave_one_out_baseline`, and 0 for ``n = 1``. The bias decreases as ``n`` grows.
    """
    count = mask.sum(axis=1, keepdims=True)
    mean = np.sum(returns, axis=1, keepdims=True, where=mask) / np.maximum(count, 1)
    return np.where(mask, mean, 0.0)


def leave_one_out_baseline(returns: Floats, mask: Mask) -> Floats:
    """Computes the mean return of the *other* episodes that reach step t.

    In symbols: ``b_ti = sum_{j != i} m_tj R_tj / sum_{j != i} m_tj``. It leaves the gradient unbiased, because ``b_ti``
    does not depend on episode i (Kool et al. 2019, "Buy 4 REINFORCE samples, get a baseline for free!"). After the end
    of all other episodes, ``b_ti`` keeps its value from their last step. In a batch of one episode it is 0.
    """
    count = mask.sum(axis=1, keepdims=True) - mask
    total = np.sum(returns, axis=1, keepdims=True, where=mask) - np.where(mask, returns, 0.0)
    has_others = count > 0
    last = np.maximum.accumulate(np.where(has_others, np.arange(len(mask))[:, np.newaxis], -1), axis=0)
    mean = total / np.maximum(count, 1)
    extended = np.where(last >= 0, np.take_along_axis(mean, np.maximum(last, 0), axis=0), 0.0)
    return np.where(mask, extended, 0.0)


def running_mean(before: float | None, returns: Floats, mask: Mask, rate: float) -> float:
    """Computes the baseline for the next batch: ``b + rate * (mean(R) - b)``, or ``mean(R)`` after the first batch.

    It leaves the gradient unbiased, because it depends on earlier batches only (the reinforcement comparison of Sutton
    1984; Williams 1992).

    Args:
        before: ``b``, the baseline of this batch; None for the first batch.
        returns: ``[T, B]``, the returns of this batch.
        mask: ``[T, B]``.
        rate: Weight of this batch's mean, in (0, 1].
    """
    mean = float(np.mean(returns, where=mask))
    return mean if before is None else before + rate * (mean - before)


def rescale(advantages: Floats, returns: Floats, mask: Mask) -> Floats:
    """Divides advantages by their root mean square over real steps, which makes them independent of the reward scale.

    If all returns equal their baselines up to rounding errors, the result is zeros. Otherwise the division would scale
    the rounding errors up to the size of a signal.
    """
    rms = root_mean_square(advantages, mask)
    # If rms is NaN, this comparison is false and the result is NaN, which stops the run. Zeros would hide the NaN.
    return np.zeros_like(advantages) if rms <= _rounding(returns) else advantages / rms


def root_mean_square(advantages: Floats, mask: Mask) -> float:
    """Returns the root mean square of the advantages of real steps."""
    return float(np.sqrt(np.mean(np.square(advantages), where=mask)))


def explained_variance(returns: Floats, baseline: Floats, mask: Mask) -> float:
    """Returns ``1 - Var(R - b) / Var(R)`` over real steps.

    It is 1 for a perfect baseline, 0 for a constant one, and NaN if R is constant.
    """
    variance = float(np.var(returns, where=mask))
    if variance <= _rounding(returns) ** 2:
        return float("nan")
    return 1.0 - float(np.var(returns - baseline, where=mask)) / variance


def _rounding(returns: Floats) -> float:
    """Returns a bound on the rounding errors of a mean of returns, far below any relevant difference of returns."""
    return 1e-10 * float(np.max(np.abs(returns)))
