"""A fixed value function, which does not learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


class Known:
    """Predicts with a given function of observations ``[N, ...]``."""

    def __init__(self, function: Callable[[np.ndarray], np.ndarray]) -> None:
        self._function = function

    def predict(self, observations: np.ndarray) -> np.ndarray:
        return self._function(observations).astype(np.float64)

    def fit(self, observations: np.ndarray, returns: np.ndarray, epoch: int) -> float:
        return float("nan")

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        pass
