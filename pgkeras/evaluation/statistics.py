"""Statistics over a few runs: robust means, bootstrap intervals, curves on a common grid. Pure NumPy.

Source: Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FEWEST_RUNS",
    "band",
    "bootstrap_interval",
    "improvement_interval",
    "interquartile_mean",
    "mean",
    "on_grid",
    "probability_of_improvement",
]

Floats = NDArray[np.float64]

FEWEST_RUNS = 5
"""Minimum number of runs for percentile intervals. With fewer runs, they are far too narrow: for two or three normal
values, the 95 % interval contains the mean in only 50 to 75 % of cases, because a resample stays within the range of
the runs."""

_CHUNK = 4_000_000  # numbers resampled per chunk


def mean(values: Floats) -> Floats:
    """Returns the mean over the first axis."""
    return np.asarray(values.mean(axis=0))


def interquartile_mean(values: Floats) -> Floats:
    """Returns the mean of the middle half over the first axis.

    At each end, a quarter of the values, rounded down, is cut off. The result is more robust to outliers than the mean,
    and needs fewer runs than the median (Agarwal et al. 2021, section 4.3). For fewer than four values, it is the mean.

    Args:
        values: ``[n, ...]``.

    Returns:
        ``[...]``.
    """
    cut = len(values) // 4
    return np.asarray(np.sort(values, axis=0)[cut : len(values) - cut].mean(axis=0))


def bootstrap_interval(
    strata: Sequence[Floats],
    statistic: Callable[[Floats], Floats] = interquartile_mean,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[Floats, Floats]:
    """Returns the percentile interval of a statistic by the stratified bootstrap (Efron 1979; Agarwal et al., 4.1).

    Runs are resampled with replacement within each stratum (for instance, each environment), so that every stratum
    keeps its share. The interval is slightly too narrow for few runs, and useless below :data:`FEWEST_RUNS`.

    Args:
        strata: Values ``[n, ...]`` of each stratum's runs. The values of a run are resampled together.
        statistic: Function from the concatenated runs of all strata, ``[n, ...]``, to ``[...]``.
        confidence: Share of the distribution within the interval.
        resamples: Number of resamples.
        seed: Seed of the resamples.

    Returns:
        The lower and the upper end, each ``[...]``.
    """
    generator = np.random.default_rng(seed)
    size = max(1, sum(stratum.size for stratum in strata))
    found: list[Floats] = []
    while len(found) * max(1, _CHUNK // size) < resamples:
        count = min(resamples, max(1, _CHUNK // size))
        draws = [stratum[generator.integers(len(stratum), size=(count, len(stratum)))] for stratum in strata]
        # The statistic reduces the first axis, so one call covers all resamples.
        found.append(statistic(np.moveaxis(np.concatenate(draws, axis=1), 1, 0)))
    return _middle(np.concatenate(found)[:resamples], confidence)


def probability_of_improvement(ours: Floats, theirs: Floats) -> float:
    """Returns the probability that a run of ours is better than a run of theirs. Ties count half.

    This is the Mann-Whitney U statistic divided by the number of pairs (Agarwal et al., section 4.3).

    Args:
        ours: ``[n]``.
        theirs: ``[m]``.
    """
    pairs = ours[:, np.newaxis] - theirs
    return float(((pairs > 0) + 0.5 * (pairs == 0)).mean())


def band(values: Floats, *, resamples: int = 10_000) -> tuple[Floats, Floats]:
    """Returns the band around the interquartile mean of runs: its :func:`bootstrap_interval`.

    For fewer runs than :data:`FEWEST_RUNS`, the band reaches from the lowest run to the highest.

    Args:
        values: ``[n, ...]``, one row per run.
        resamples: Number of resamples.

    Returns:
        The lower and the upper end, each ``[...]``.
    """
    if len(values) < FEWEST_RUNS:
        return np.asarray(values.min(axis=0)), np.asarray(values.max(axis=0))
    return bootstrap_interval([values], resamples=resamples)


def improvement_interval(
    ours: Floats, theirs: Floats, *, confidence: float = 0.95, resamples: int = 2_000, seed: int = 0
) -> tuple[float, float]:
    """Returns the bootstrap interval of :func:`probability_of_improvement`. Both sides are resampled independently.

    Like :func:`bootstrap_interval`, it is useless below :data:`FEWEST_RUNS` per side: if both of two runs are better
    than the other two, it is from 1 to 1.
    """
    generator = np.random.default_rng(seed)
    found = [
        probability_of_improvement(generator.choice(ours, len(ours)), generator.choice(theirs, len(theirs)))
        for _ in range(resamples)
    ]
    low, high = _middle(np.array(found), confidence)
    return float(low), float(high)


def _middle(resampled: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Returns the ends of the central interval."""
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail], axis=0)
    return low, high


def on_grid(curves: Sequence[tuple[Any, Any]], points: int) -> tuple[Floats, Floats]:
    """Interpolates curves to a common grid of steps.

    A curve that ends early, for example because its run was solved, keeps its last value.

    Args:
        curves: Steps, ascending, and values of each run.
        points: Number of points of the grid.

    Returns:
        The grid ``[points]``, from the latest start of a curve to the latest end, and the values ``[runs, points]``.
    """
    grid = np.linspace(max(steps[0] for steps, _ in curves), max(steps[-1] for steps, _ in curves), points)
    return grid, np.stack([np.interp(grid, steps, values) for steps, values in curves])
