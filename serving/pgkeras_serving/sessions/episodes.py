"""Sums up the rewards of a session's environments, episode by episode."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pgkeras_serving.messages.steps import Transition
from pgkeras_serving.telemetry.episodes import Record

__all__ = ["Episodes"]

_MAX_PENDING = 64


class Episodes:
    """Adds up the rewards of a session's environments, episode by episode.

    Args:
        rows: The number of environments, B.
        record: Called with the return and the length of every episode that ends. An episode that the client starts over
            before its end is not recorded.
    """

    def __init__(self, rows: int, record: Record) -> None:
        self._record = record
        self._returns = np.zeros(rows, np.float64)
        self._lengths = np.zeros(rows, np.int64)
        self.over = np.ones(rows, np.bool_)
        """bool ``[B]``: whether the last observation ended its episode, or there was none."""
        # Rewards of steps in which no episode ended. They are summed in blocks, because summing each step would take
        # longer than acting.
        self._pending: list[NDArray[np.float32]] = []
        self._all_under_way = False

    def advance(self, transition: Transition | None, start: NDArray[np.bool_] | None) -> None:
        """Processes one message.

        Args:
            transition: Outcome of the previous actions; None if there were none.
            start: bool ``[B]``: whether the new observation is the first of an episode. None means that it is wherever
                the episode had ended.
        """
        if self._all_under_way and transition is not None and transition.ended is None and start is None:
            self._pending.append(transition.reward)
            if len(self._pending) == _MAX_PENDING:
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
