"""What runs had learnt after some steps, read from their metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgkeras.errors import RunError
from pgkeras.runs.directory import read_metrics

__all__ = ["value_at"]


def value_at(runs: Sequence[Path], metric: str, at: int | None = None) -> NDArray[np.float64]:
    """A metric of each run at the end, or after some steps.

    Args:
        runs: Run directories.
        metric: Its name in ``metrics.jsonl``.
        at: After so many environment steps: at the first epoch that ends there or later.

    Returns:
        ``[runs]``.

    Raises:
        RunError: A run has no such metric, or has not come so far.
    """
    values = []
    for run in runs:
        epochs = read_metrics(run)
        if not epochs:
            raise RunError(f"{run}: no epoch is finished")
        if at is not None:
            epochs = [epoch for epoch in epochs if epoch["env_steps"] >= at][:1]
            if not epochs:
                raise RunError(f"{run}: it ended before {at:,} steps; give a smaller --at")
        value = epochs[-1].get(metric)
        if value is None or not math.isfinite(value):
            known = ", ".join(sorted(name for name, number in epochs[-1].items() if number is not None))
            raise RunError(f"{run}: no {metric} in its metrics; there is {known}")
        values.append(float(value))
    return np.array(values)
