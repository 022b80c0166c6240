"""Slots: which environments of a session play an episode that counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["EpisodeSlots"]


class EpisodeSlots:
    """The environments of a session, and what each of them is doing.

    Each is, at any time: *playing* an episode that counts; at the *first* observation of an episode that it has not
    acted on, where it can wait until it is to play another; at the last observation of one, whose action nobody takes;
    or *idle*, in an episode that does not count, since it was not held or began before.

    Args:
        rows: How many environments.

    Attributes:
        remaining: int64 ``[rows]``: how many episodes each is still to play.
        first: bool ``[rows]``: at an episode's first observation.
    """

    def __init__(self, rows: int) -> None:
        self.remaining: NDArray[np.int64] = np.zeros(rows, np.int64)
        self.first: NDArray[np.bool_] = np.zeros(rows, np.bool_)
        self._begun: NDArray[np.int64] = np.full(rows, -1, np.int64)  # first step of the episode that counts, else -1

    @property
    def under_way(self) -> int:
        """Episodes that count and have begun."""
        return int((self._begun >= 0).sum())

    @property
    def all_play(self) -> bool:
        """Whether every environment is amidst an episode that counts."""
        return bool((self._begun >= 0).all()) and not self.first.any()

    def plays(self) -> NDArray[np.bool_]:
        """Which environments play an episode that counts, or begin one now: bool ``[rows]``."""
        return (self._begun >= 0) | self._begins()

    def catches_up(self, over: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which environments have something to play, but are still in an episode that does not count.

        Args:
            over: bool ``[rows]``: at an episode's last observation.
        """
        return ~self.first & ~over & (self._begun < 0) & (self.remaining > 0)

    def begin(self, step: int) -> None:
        """Begins the episodes that are to be played, with the action of this step."""
        self._begun[self._begins()] = step

    def advance(self, ended: NDArray[np.bool_], first: NDArray[np.bool_]) -> tuple[list[tuple[int, int]], int]:
        """Takes down what the last actions led to.

        Args:
            ended: bool ``[rows]``: whose episode has ended.
            first: bool ``[rows]``: who is at an episode's first observation.

        Returns:
            Slot and first step of the episodes that count and have ended; and how many were broken off, since another
            has begun.
        """
        playing = self._begun >= 0
        ended = ended & playing
        broken = playing & first & ~ended
        finished = [(slot, int(self._begun[slot])) for slot in np.flatnonzero(ended).tolist()]
        self.remaining[ended] -= 1
        self._begun[ended | broken] = -1
        self.first = first.copy()
        return finished, int(broken.sum())

    def give_up(self) -> int:
        """Has nothing more to play. Returns how many episodes there were left."""
        left = int(self.remaining.sum())
        self.remaining[:] = 0
        self._begun[:] = -1
        return left

    def _begins(self) -> NDArray[np.bool_]:
        return self.first & (self.remaining > 0) & (self._begun < 0)
