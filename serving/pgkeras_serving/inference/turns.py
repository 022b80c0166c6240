"""Turns: a queue in which callers take turns, so that who asks for much does not make the others wait for all of it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Turns"]

_Key = TypeVar("_Key", bound=Hashable)


class Turns(Generic[_Key]):
    """Requests that wait, in a lane for each caller; within a lane, they are served in order.

    Attributes:
        rows: Observations in all waiting requests.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._lanes: dict[Hashable, dict[_Key, int]] = {}  # whose turn is next comes first
        self._callers: dict[_Key, Hashable] = {}

    def __len__(self) -> int:
        return len(self._callers)

    def __contains__(self, caller: Hashable) -> bool:
        return caller in self._lanes

    def put(self, key: _Key, rows: int, caller: Hashable) -> None:
        """Adds a request of so many observations."""
        self._lanes.setdefault(caller, {})[key] = rows
        self._callers[key] = caller
        self.rows += rows

    def remove(self, key: _Key) -> bool:
        """Takes a request out; False if it does not wait any more."""
        if key not in self._callers:
            return False
        caller = self._callers.pop(key)
        lane = self._lanes[caller]
        self.rows -= lane.pop(key)
        if not lane:
            del self._lanes[caller]
        return True

    def take(self, max_rows: int) -> list[_Key]:
        """Takes out what is next: at most ``max_rows`` observations or one request, one of each caller in turn."""
        taken: list[_Key] = []
        room = max_rows
        while self._lanes:
            caller, lane = next(iter(self._lanes.items()))
            key, rows = next(iter(lane.items()))
            if rows > room and taken:
                break
            room -= rows
            taken.append(key)
            self.remove(key)
            if lane:  # to the back
                del self._lanes[caller]
                self._lanes[caller] = lane
        return taken
