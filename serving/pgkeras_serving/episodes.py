"""Episodes as a session sees them: which rewards belong to which, and what they came to, by policy version."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["EpisodeLog", "EpisodeSummary", "EpisodeSums", "Episodes", "Record", "Transition"]

Record = Callable[[float, int], None]
"""Takes the undiscounted return and the length, in actions, of an episode that has ended."""

_REMEMBERED = 100
_MOST_PENDING = 64


class Transition(NamedTuple):
    """What the previous actions of a session's environments led to.

    Args:
        reward: float32 ``[B]``.
        ended: bool ``[B]``: whether the episode ended, be it terminated or truncated; None if none did.
    """

    reward: NDArray[np.float32]
    ended: NDArray[np.bool_] | None


class Episodes:
    """Adds up the rewards of a session's environments, episode by episode.

    Args:
        rows: The number of environments, B.
        record: Is told every episode that ends; one that is started over is not told.
    """

    def __init__(self, rows: int, record: Record) -> None:
        self._record = record
        self._returns = np.zeros(rows, np.float64)
        self._lengths = np.zeros(rows, np.int64)
        self.over = np.ones(rows, np.bool_)
        """bool ``[B]``: the last observation was the last of its episode, or there was none."""
        # Rewards of steps in which every episode went on; to add up each by itself would take longer than acting does.
        self._pending: list[NDArray[np.float32]] = []
        self._all_under_way = False

    def advance(self, transition: Transition | None, start: NDArray[np.bool_] | None) -> None:
        """Takes in one message.

        Args:
            transition: What the previous actions led to; None where there were none.
            start: bool ``[B]``: the new observation is the first of an episode. None: it is where the last was the
                last of one.
        """
        if self._all_under_way and transition is not None and transition.ended is None and start is None:
            self._pending.append(transition.reward)
            if len(self._pending) == _MOST_PENDING:
                self._add_up()
            return
        self._add_up()
        over = self.over
        ended = np.zeros_like(over)
        if transition is not None:
            acted = ~over
            self._returns += np.where(acted, transition.reward, 0.0)
            self._lengths += acted
            if transition.ended is not None:
                ended = transition.ended & acted
            for row in np.flatnonzero(ended):
                self._record(float(self._returns[row]), int(self._lengths[row]))
        fresh = over | ended
        if start is not None:
            fresh |= start
            ended = (over | ended) & ~start
        if fresh.any():
            self._returns[fresh] = 0.0
            self._lengths[fresh] = 0
        self.over = ended
        self._all_under_way = not ended.any()

    def _add_up(self) -> None:
        if self._pending:
            self._returns += np.sum(self._pending, axis=0, dtype=np.float64)
            self._lengths += len(self._pending)
            self._pending.clear()


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
        self._last: deque[tuple[float, int]] = deque(maxlen=_REMEMBERED)

    def record(self, episode_return: float, length: int) -> None:
        """Takes in an episode; a :data:`Record`."""
        self._last.append((episode_return, length))
        self.sums.count += 1
        self.sums.returns += episode_return
        self.sums.lengths += length

    def summary(self) -> EpisodeSummary:
        """How they went."""
        if not self._last:
            return EpisodeSummary(0, float("nan"), float("nan"))
        mean_return, mean_length = np.mean(self._last, axis=0)
        return EpisodeSummary(self.sums.count, float(mean_return), float(mean_length))

    def last_returns(self) -> list[float]:
        """The returns of the last 100, the oldest first."""
        return [episode_return for episode_return, _ in self._last]
