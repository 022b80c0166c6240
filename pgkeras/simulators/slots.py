"""Tracks which environments of a session play an episode that counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["EpisodeSlots"]


class EpisodeSlots:
    """The state of each environment of a session.

    At any time, an environment is *playing* an episode that counts; at the *first* observation of an episode, where it
    can wait for its next assignment; at the last observation of an episode, whose action is ignored; or *idle*, in an
    episode that does not count because the environment was not held or began it earlier.

    Args:
        rows: Number of environments.

    Attributes:
        remaining: int64 ``[rows]``: episodes left to play.
        first: bool ``[rows]``: at an episode's first observation.
    """

    def __init__(self, rows: int) -> None:
        self.remaining: NDArray[np.int64] = np.zeros(rows, np.int64)
        self.first: NDArray[np.bool_] = np.zeros(rows, np.bool_)
        self._begun: NDArray[np.int64] = np.full(rows, -1, np.int64)  # first step of the episode that counts, or -1

    @property
    def under_way(self) -> int:
        """Number of episodes in progress that count."""
        return int((self._begun >= 0).sum())

    @property
    def all_play(self) -> bool:
        """Whether every environment is in the middle of an episode that counts."""
        return bool((self._begun >= 0).all()) and not self.first.any()

    def plays(self) -> NDArray[np.bool_]:
        """Returns which environments play an episode that counts, or begin one now: bool ``[rows]``."""
        return (self._begun >= 0) | self._begins()

    def catches_up(self, over: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Returns which environments must end an episode that does not count before they play one that does.

        Args:
            over: bool ``[rows]``: at an episode's last observation.
        """
        return ~self.first & ~over & (self._begun < 0) & (self.remaining > 0)

    def begin(self, step: int) -> None:
        """Begins episodes that count, with the action of this step."""
        self._begun[self._begins()] = step

    def advance(self, ended: NDArray[np.bool_], first: NDArray[np.bool_]) -> tuple[list[tuple[int, int]], int]:
        """Updates the state with the results of the last actions.

        Args:
            ended: bool ``[rows]``: the episode has ended.
            first: bool ``[rows]``: at an episode's first observation.

        Returns:
            Slot and first step of each finished episode that counts; and the number of episodes that were broken off by
            a new one.
        """
        playing = self._begun >= 0
        ended = ended & playing
        broken = playing & first & ~ended
        finished = [(slot, int(self._begun[slot])) for slot in np.flatnonzero(ended).tolist()]
        self.remaining[ended] -= 1
        self._begun[ended | broken] = -1
        self.first = first.copy()
        return finished, int(broken.sum())

    def cancel(self) -> int:
        """Cancels all remaining episodes. Returns their number."""
        left = int(self.remaining.sum())
        self.remaining[:] = 0
        self._begun[:] = -1
        return left

    def _begins(self) -> NDArray[np.bool_]:
        return self.first & (self.remaining > 0) & (self._begun < 0)
