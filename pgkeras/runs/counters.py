"""Counters: how far a run has come."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MEAN_RETURN", "WINDOW", "Counters"]

WINDOW = 100
"""Episodes whose mean return says how good the policy is while it trains."""

MEAN_RETURN = "mean_return_100"
"""The metric that is this mean: what is drawn and compared if no other metric is named."""


@dataclass
class Counters:
    """How far a run has come; a checkpoint has all of it.

    Args:
        epoch: Epochs that are done.
        env_steps: Environment steps of their episodes.
        episodes: Their episodes.
        seconds: Seconds of training, of both phases.
        recent_returns: Undiscounted returns of the last :data:`WINDOW` episodes.
        recent_lengths: Their lengths, in steps.
    """

    epoch: int = 0
    env_steps: int = 0
    episodes: int = 0
    seconds: float = 0.0
    recent_returns: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    recent_lengths: deque[int] = field(default_factory=lambda: deque(maxlen=WINDOW))

    @property
    def mean_return_100(self) -> float:
        """Mean return of the last hundred training episodes, or of all so far; NaN before the first."""
        return float(np.mean(self.recent_returns)) if self.recent_returns else float("nan")

    def add_epoch(self, returns: NDArray[np.float64], lengths: NDArray[np.int64], seconds: float) -> None:
        """Counts an epoch.

        Args:
            returns: ``[episodes]``, undiscounted.
            lengths: ``[episodes]``, in steps.
            seconds: How long both phases took.
        """
        self.epoch += 1
        self.env_steps += int(lengths.sum())
        self.episodes += len(returns)
        self.seconds += seconds
        self.recent_returns.extend(returns.tolist())
        self.recent_lengths.extend(lengths.tolist())

    def state(self) -> dict[str, NDArray[Any]]:
        """The counters by name, for the checkpoint."""
        return {
            "counters": np.array((self.epoch, self.env_steps, self.episodes)),
            "seconds": np.array(self.seconds),
            "recent": np.array(self.recent_returns),
            "recent_lengths": np.array(self.recent_lengths),
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restores a :meth:`state`.

        Raises:
            KeyError: Something is missing.
        """
        self.epoch, self.env_steps, self.episodes = (int(n) for n in state["counters"])
        self.seconds = float(state["seconds"])
        for recent, name in ((self.recent_returns, "recent"), (self.recent_lengths, "recent_lengths")):
            recent.clear()
            recent.extend(state[name].tolist())
