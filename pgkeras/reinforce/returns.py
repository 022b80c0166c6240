"""Returns and baselines: pure functions of rewards ``[T, B]`` and of the mask ``[T, B]`` of real steps.

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
    """Return of every step: ``R_t = r_t + gamma * R_{t+1}``, with ``R_T = 0`` (Sutton & Barto, equation 3.9).

    Args:
        rewards: ``[T, B]``, zero in padding, so that an episode's returns end with it.
        gamma: Discount in [0, 1].
        ends: ``[T, B]``, steps beyond which a return does not go: there ``R_t = r_t``. None for none.

    Returns:
        ``[T, B]``.
    """
    if rewards.ndim != 2:
        raise ValueError(f"discounted_returns: rewards must be [T, B], got shape {rewards.shape}")
    # By doubling: when R_t sums the next n rewards, R_t + gamma^n * R_{t+n} sums the next 2n. That takes log2(T) passes
    # over whole arrays, where the recursion takes T steps of Python.
    returns = rewards
    reach = None if ends is None else np.where(ends, 0.0, gamma)  # the product of the discounts of the next n steps
    n = 1
    while n < len(rewards):
        longer = returns.copy()
        longer[:-n] += (gamma**n if reach is None else reach[:-n]) * returns[n:]
        if reach is not None:
            reach = np.concatenate([reach[:-n] * reach[n:], reach[-n:]])
        returns = longer
        n *= 2
    return returns


def episode_returns(returns: Floats, mask: Mask) -> Floats:
    """The whole episode's return at every step: ``R_t = R_0``, as in Williams's episodic REINFORCE (1992).

    The rewards before step t do not depend on its action: they add nothing to the gradient's expectation, only
    variance. (With gamma below 1 it is the gradient of the discounted return all the same, since later rewards stay
    discounted from the episode's beginning; see :func:`discounts`.)

    Args:
        returns: ``[T, B]`` of :func:`discounted_returns`.
        mask: ``[T, B]``.
    """
    return np.where(mask, returns[0], 0.0)


def discounts(steps: int, gamma: float) -> Floats:
    """``gamma**t``, ``[T, 1]``: the weight of step t in the gradient of the discounted return (Sutton & Barto, p. 328).

    The gradient of ``E[sum_t gamma**t r_t]`` is ``E[sum_t gamma**t R_t grad log P(a_t | s_t)]``. Nearly everyone leaves
    the factor out, and so learns as eagerly from late steps as from early ones; what that follows is no objective's
    gradient (Nota & Thomas 2020, "Is the policy gradient a gradient?").
    """
    return np.power(gamma, np.arange(steps, dtype=np.float64))[:, np.newaxis]


def bootstrapped(
    rewards: Floats, lengths: NDArray[np.int64], truncated: NDArray[np.bool_], gamma: float, final_values: Floats
) -> Floats:
    """Rewards whose returns go on beyond a truncation: the last reward of a truncated episode plus ``gamma V(s_T)``.

    An episode that ended in a terminal state has no future, even if it was truncated at the same step (Pardo et al.
    2018, "Time limits in reinforcement learning").

    Args:
        rewards: ``[T, B]``.
        lengths: ``[B]``.
        truncated: ``[B]``, cut off and not terminal.
        gamma: Discount in [0, 1].
        final_values: ``[B]``, V of each episode's final observation.
    """
    longer = rewards.copy()
    longer[lengths - 1, np.arange(len(lengths))] += np.where(truncated, gamma * final_values, 0.0)
    return longer


def time_baseline(returns: Floats, mask: Mask) -> Floats:
    """Mean return of all episodes that reach step t: ``b_t = sum_i m_ti R_ti / sum_i m_ti``.

    It includes the episode's own return. Where ``n`` episodes reach step t, the advantage is therefore ``(n - 1) / n``
    times that of :func:`leave_one_out_baseline`, and zero where one episode is alone. The bias fades as ``n`` grows.
    """
    count = mask.sum(axis=1, keepdims=True)
    mean = np.sum(returns, axis=1, keepdims=True, where=mask) / np.maximum(count, 1)
    return np.where(mask, mean, 0.0)


def leave_one_out_baseline(returns: Floats, mask: Mask) -> Floats:
    """Mean return of the *other* episodes that reach step t: ``b_ti = sum_{j != i} m_tj R_tj / sum_{j != i} m_tj``.

    It does not depend on episode i, so it leaves the gradient unbiased (Kool et al. 2019, "Buy 4 REINFORCE samples,
    get a baseline for free!"). Past the end of all other episodes, the value at their last step is kept; with no other
    episode it is zero.
    """
    count = mask.sum(axis=1, keepdims=True) - mask
    total = np.sum(returns, axis=1, keepdims=True, where=mask) - np.where(mask, returns, 0.0)
    has_others = count > 0
    last = np.maximum.accumulate(np.where(has_others, np.arange(len(mask))[:, np.newaxis], -1), axis=0)
    mean = total / np.maximum(count, 1)
    carried = np.where(last >= 0, np.take_along_axis(mean, np.maximum(last, 0), axis=0), 0.0)
    return np.where(mask, carried, 0.0)


def running_mean(before: float | None, returns: Floats, mask: Mask, rate: float) -> float:
    """The baseline for the next batch: ``b + rate * (mean(R) - b)``, or the first batch's own mean.

    As a baseline it depends on earlier batches only, so it leaves the gradient unbiased (the reinforcement comparison
    of Sutton 1984, which Williams 1992 takes up).

    Args:
        before: The baseline that this batch had; None before any.
        returns: ``[T, B]``, this batch's.
        mask: ``[T, B]``.
        rate: How much of it is forgotten at each batch, in (0, 1].
    """
    mean = float(np.mean(returns, where=mask))
    return mean if before is None else before + rate * (mean - before)


def rescale(advantages: Floats, returns: Floats, mask: Mask) -> Floats:
    """Divides by the root mean square over real steps, so that the step size does not depend on the scale of rewards.

    Where returns equal their baseline but for rounding there is nothing to learn, and the advantages become zeros:
    divided by their own size, rounding errors would be as loud as a signal.
    """
    rms = root_mean_square(advantages, mask)
    # Written so that a root mean square of NaN leaves NaN, which stops the run, and not zeros, which would hide it.
    return np.zeros_like(advantages) if rms <= _rounding(returns) else advantages / rms


def root_mean_square(advantages: Floats, mask: Mask) -> float:
    """Of the advantages of real steps."""
    return float(np.sqrt(np.mean(np.square(advantages), where=mask)))


def explained_variance(returns: Floats, baseline: Floats, mask: Mask) -> float:
    """``1 - Var(R - b) / Var(R)`` over real steps: 1 for a perfect baseline, 0 for a constant; NaN if R is constant."""
    variance = float(np.var(returns, where=mask))
    if variance <= _rounding(returns) ** 2:
        return float("nan")
    return 1.0 - float(np.var(returns - baseline, where=mask)) / variance


def _rounding(returns: Floats) -> float:
    """A bound on the rounding errors of a mean of returns, far below any difference between returns that matters."""
    return 1e-10 * float(np.max(np.abs(returns)))
