"""The log of episodes: how many were played with a policy version, and the returns of the last hundred."""

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
    """How the episodes went that were played with one version.

    Args:
        count: All of them since it was loaded.
        mean_return: Mean undiscounted return of the last 100; NaN when there are none.
        mean_length: Their mean length, in actions.
    """

    count: int
    mean_return: float
    mean_length: float


@dataclass
class EpisodeSums:
    """All episodes of one version since it was loaded.

    Args:
        count: How many.
        returns: The sum of their undiscounted returns.
        lengths: The sum of their lengths, in actions.
    """

    count: int = 0
    returns: float = 0.0
    lengths: int = 0


class EpisodeLog:
    """The episodes that were played with one version, of which it remembers the last 100 singly.

    Attributes:
        sums: Of all of them.
    """

    def __init__(self) -> None:
        self.sums = EpisodeSums()
        self._last: deque[tuple[float, float, int]] = deque(maxlen=_REMEMBERED)  # each with when it ended

    def record(self, episode_return: float, length: int) -> None:
        """Records a finished episode; a :data:`Record`."""
        self._last.append((time.monotonic(), episode_return, length))
        self.sums.count += 1
        self.sums.returns += episode_return
        self.sums.lengths += length

    def summary(self) -> EpisodeSummary:
        """How they went."""
        if not self._last:
            return EpisodeSummary(0, float("nan"), float("nan"))
        _, mean_return, mean_length = np.mean(self._last, axis=0)
        return EpisodeSummary(self.sums.count, float(mean_return), float(mean_length))

    def last_returns(self) -> list[float]:
        """The returns of the last 100, the oldest first."""
        return [episode_return for _, episode_return, _ in self._last]

    @classmethod
    def merged(cls, logs: Sequence[EpisodeLog]) -> EpisodeLog:
        """The log of all episodes of several, each of another process."""
        total = cls()
        for log in logs:
            total.sums.count += log.sums.count
            total.sums.returns += log.sums.returns
            total.sums.lengths += log.sums.lengths
        total._last.extend(sorted(episode for log in logs for episode in log._last))
        return total
