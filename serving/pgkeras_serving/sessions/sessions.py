"""Limits the number of open sessions and their idle time, and ends them when the server stops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pgkeras.errors import DeadlineExceededError, PolicyServiceError, ServerBusyError, ServerUnavailableError

__all__ = ["SessionSlot", "Sessions"]

_RETRY_SECONDS = 1.0
# Idle sessions are looked for so many times while one may be idle, which is cheaper than a timer per message.
_LOOKS = 4


class SessionSlot:
    """One open session's place; made by :meth:`Sessions.slot`, and used by the task that made it.

    The task says when it begins to wait for the client and when it has stopped to; what it waits in is cancelled when
    the session is to end, and then :attr:`reason` says why. These are no coroutines around the waiting itself, since
    each of those would cost a session as much as reading its message does.

    Attributes:
        reason: Why the session is to end; None while it is not.
    """

    def __init__(self) -> None:
        self.reason: PolicyServiceError | None = None
        self._task = asyncio.current_task()
        self._receiving = False
        self._waiting_since: float | None = None

    def receives(self) -> None:
        """The task is about to wait for the client's next message.

        Raises:
            PolicyServiceError: The session has been ended; the error says why.
        """
        if self.reason is not None:
            raise self.reason
        self._receiving = True
        self._waiting_since = time.monotonic()

    def sends(self) -> None:
        """The task is about to wait until the client has room for an answer."""
        self._waiting_since = time.monotonic()

    def works(self) -> None:
        """The task waits for the client no more."""
        self._receiving = False
        self._waiting_since = None

    def end(self, reason: PolicyServiceError) -> None:
        """Ends the session: at once if it waits for a message, else when it has sent the answer that it is at."""
        self.reason = self.reason or reason
        if self._receiving:
            self._cancel()

    def expire(self, moment: float, reason: PolicyServiceError) -> None:
        """Ends the session at once if nothing has moved since a moment of the monotonic clock."""
        if self._waiting_since is not None and self._waiting_since <= moment:
            self.reason = self.reason or reason
            self._cancel()

    def _cancel(self) -> None:
        assert self._task is not None
        self._task.cancel()


class Sessions:
    """All open sessions of a server.

    Args:
        limit: How many there may be at once.
        idle_seconds: How long one may wait for its client.
    """

    def __init__(self, limit: int, idle_seconds: float) -> None:
        self._limit = limit
        self._idle_seconds = idle_seconds
        self._slots: set[SessionSlot] = set()
        self._ended = False
        self._watching = False

    def __len__(self) -> int:
        return len(self._slots)

    @contextmanager
    def slot(self) -> Iterator[SessionSlot]:
        """Occupies one of the session slots for the duration of the block.

        Raises:
            ServerBusyError: There is none left.
            ServerUnavailableError: The server is stopping.
        """
        if self._ended:
            raise _stopping()
        if len(self._slots) >= self._limit:
            raise ServerBusyError(f"{self._limit} sessions are open, and no more may be", _RETRY_SECONDS)
        slot = SessionSlot()
        self._slots.add(slot)
        if not self._watching:
            self._watching = True
            self._watch()
        try:
            yield slot
        finally:
            self._slots.discard(slot)

    def end(self) -> None:
        """Ends every session and takes no new ones."""
        self._ended = True
        for slot in self._slots:
            slot.end(_stopping())

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        idle = DeadlineExceededError(
            f"nothing was sent or received for {self._idle_seconds:g} s, so the session was ended; open a new one"
        )
        for slot in self._slots:
            slot.expire(time.monotonic() - self._idle_seconds, idle)
        self._watching = bool(self._slots)
        if self._watching:
            loop.call_later(self._idle_seconds / _LOOKS, self._watch)


def _stopping() -> ServerUnavailableError:
    return ServerUnavailableError("the server is stopping, so the session was ended; connect again and open a new one")
