"""Running mean and variance, in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Moments"]

_MAX_NUMBERS = 1 << 23  # per chunk, because an update makes three float64 copies of a chunk


@dataclass
class Moments:
    """Running mean and variance of rows.

    Batches are combined by the pairwise algorithm of Chan, Golub & LeVeque 1979, "Updating formulae and a pairwise
    algorithm for computing sample variances", which does not lose precision as the count grows.

    Args:
        mean: float64 ``[...]``.
        squares: float64 ``[...]``, the sum of squared deviations from the mean.
        count: Number of rows so far.
    """

    mean: NDArray[np.float64]
    squares: NDArray[np.float64]
    count: float = 0.0

    @classmethod
    def zeros(cls, shape: tuple[int, ...]) -> Moments:
        """Returns the moments of no rows."""
        return cls(np.zeros(shape), np.zeros(shape))

    @property
    def std(self) -> NDArray[np.float64]:
        """Standard deviation; 1 for elements with variance 0."""
        variance = self.squares / max(self.count, 1.0)
        return np.where(variance > 0, np.sqrt(variance), 1.0)

    def update(self, rows: NDArray[Any]) -> None:
        """Adds a batch of rows ``[N, ...]``."""
        size = max(1, _MAX_NUMBERS // max(1, self.mean.size))
        for first in range(0, len(rows), size):
            self._add(rows[first : first + size].astype(np.float64))

    def _add(self, rows: NDArray[np.float64]) -> None:
        mean = rows.mean(axis=0)
        count = self.count + len(rows)
        delta = mean - self.mean
        self.mean = self.mean + delta * (len(rows) / count)
        self.squares = self.squares + np.square(rows - mean).sum(axis=0)
        self.squares = self.squares + np.square(delta) * (self.count * len(rows) / count)
        self.count = count

    def state(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Returns the moments for a checkpoint, by name with a prefix."""
        return {f"{prefix}mean": self.mean, f"{prefix}squares": self.squares, f"{prefix}count": np.array(self.count)}

    def restore(self, state: Mapping[str, NDArray[Any]], prefix: str) -> None:
        """Restores a :meth:`state`."""
        self.mean, self.squares = state[f"{prefix}mean"], state[f"{prefix}squares"]
        self.count = float(state[f"{prefix}count"])
