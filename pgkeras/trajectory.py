"""Trajectory: whole episodes as they were played."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Trajectory"]


class Trajectory(NamedTuple):
    """``B`` whole episodes side by side, padded to the ``T`` steps of the longest: rows from ``lengths[b]`` on."""

    observations: NDArray[Any]  # [T, B, ...] what the policy saw, as the act graph takes it
    samples: NDArray[Any]  # [T, B, ...] what the distribution gave; the action is a function of it
    rewards: NDArray[np.float64]  # [T, B] what followed the action; 0 in padding
    lengths: NDArray[np.int64]  # [B] steps in each episode, at least 1
    terminated: NDArray[np.bool_]  # [B] ended in a terminal state; otherwise it was truncated

    @property
    def mask(self) -> NDArray[np.bool_]:
        """``[T, B]``: true for real steps, false for padding."""
        return np.arange(len(self.rewards))[:, np.newaxis] < self.lengths

    @property
    def steps(self) -> int:
        """Number of real steps."""
        return int(self.lengths.sum())

    @property
    def episode_returns(self) -> NDArray[np.float64]:
        """``[B]``: the sum of each episode's rewards, undiscounted."""
        return np.asarray(self.rewards.sum(axis=0))
