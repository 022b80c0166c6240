"""Recognises a policy that has settled on something worse than what it began with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["has_collapsed"]

_FEWEST_EPOCHS = 10
_SHARE = 0.02  # of the entropy at the start


def has_collapsed(metrics: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a policy over choices hardly varies any more, and returns less than it did at the start.

    Args:
        metrics: A run's, epoch by epoch, as :func:`pgkeras.runs.read_metrics` gives them.
    """
    if len(metrics) < _FEWEST_EPOCHS:
        return False
    few = max(1, len(metrics) // 20)
    first, last = metrics[:few], metrics[-few:]
    entropies, returns = (
        [float(np.mean([epoch[name] for epoch in part])) for part in (first, last)]
        for name in ("entropy", "return_mean")
    )
    return 0 <= entropies[1] < _SHARE * entropies[0] and returns[1] < returns[0]
