"""Fair queue: serves callers round-robin, so one caller's backlog does not delay the others."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["FairQueue"]

_Key = TypeVar("_Key", bound=Hashable)


class FairQueue(Generic[_Key]):
    """Waiting requests, in one backlog per caller. Each backlog is first in, first out.

    Attributes:
        rows: Observations in all waiting requests.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._backlogs: dict[Hashable, dict[_Key, int]] = {}  # the caller to serve next comes first
        self._callers: dict[_Key, Hashable] = {}

    def __len__(self) -> int:
        return len(self._callers)

    def __contains__(self, caller: Hashable) -> bool:
        return caller in self._backlogs

    def put(self, key: _Key, rows: int, caller: Hashable) -> None:
        """Adds a request with ``rows`` observations."""
        self._backlogs.setdefault(caller, {})[key] = rows
        self._callers[key] = caller
        self.rows += rows

    def remove(self, key: _Key) -> bool:
        """Removes a request. Returns False if it is not waiting."""
        if key not in self._callers:
            return False
        caller = self._callers.pop(key)
        backlog = self._backlogs[caller]
        self.rows -= backlog.pop(key)
        if not backlog:
            del self._backlogs[caller]
        return True

    def take(self, max_rows: int) -> list[_Key]:
        """Removes and returns the next batch: at most ``max_rows`` observations, or one larger request."""
        taken: list[_Key] = []
        room = max_rows
        while self._backlogs:
            caller, backlog = next(iter(self._backlogs.items()))
            key, rows = next(iter(backlog.items()))
            if rows > room and taken:
                break
            room -= rows
            taken.append(key)
            self.remove(key)
            if backlog:  # to the back
                del self._backlogs[caller]
                self._backlogs[caller] = backlog
        return taken
