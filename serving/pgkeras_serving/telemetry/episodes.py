"""Episode log: counts the episodes of a policy version and keeps the returns of the last 100."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["EpisodeLog", "EpisodeSummary", "EpisodeSums", "Record"]

Record = Callable[[float, int], None]
"""Called with the undiscounted return and the length, in actions, of every finished episode."""

_REMEMBERED = 100


@dataclass(frozen=True)
class EpisodeSummary:
    """Summary of the episodes played with one version.

    Args:
        count: Number of episodes since the version was loaded.
        mean_return: Mean undiscounted return of the last 100 episodes; NaN without episodes.
        mean_length: Mean length of the last 100 episodes, in actions; NaN without episodes.
    """

    count: int
    mean_return: float
    mean_length: float


@dataclass
class EpisodeSums:
    """Sums over all episodes of one version since it was loaded.

    Args:
        count: Number of episodes.
        returns: Sum of their undiscounted returns.
        lengths: Sum of their lengths, in actions.
    """

    count: int = 0
    returns: float = 0.0
    lengths: int = 0


class EpisodeLog:
    """The episodes played with one version. Keeps the last 100 individually.

    Attributes:
        sums: Sums over all episodes.
    """

    def __init__(self) -> None:
        self.sums = EpisodeSums()
        self._last: deque[tuple[float, float, int]] = deque(maxlen=_REMEMBERED)  # end time, return, length

    def record(self, episode_return: float, length: int) -> None:
        """Records a finished episode; a :data:`Record`."""
        self._last.append((time.monotonic(), episode_return, length))
        self.sums.count += 1
        self.sums.returns += episode_return
        self.sums.lengths += length

    def summary(self) -> EpisodeSummary:
        """Returns a summary."""
        if not self._last:
            return EpisodeSummary(0, float("nan"), float("nan"))
        _, mean_return, mean_length = np.mean(self._last, axis=0)
        return EpisodeSummary(self.sums.count, float(mean_return), float(mean_length))

    def last_returns(self) -> list[float]:
        """Returns the returns of the last 100 episodes, oldest first."""
        return [episode_return for _, episode_return, _ in self._last]

    @classmethod
    def merged(cls, logs: Sequence[EpisodeLog]) -> EpisodeLog:
        """Merges the logs of several processes."""
        total = cls()
        for log in logs:
            total.sums.count += log.sums.count
            total.sums.returns += log.sums.returns
            total.sums.lengths += log.sums.lengths
        total._last.extend(sorted(episode for log in logs for episode in log._last))
        return total
