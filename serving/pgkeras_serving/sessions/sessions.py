"""Limits the number of open sessions and their idle time, and ends them when the server stops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pgkeras.errors import DeadlineExceededError, PolicyServiceError, ServerBusyError, ServerUnavailableError

__all__ = ["SessionSlot", "Sessions"]

_RETRY_SECONDS = 1.0
# Idle sessions are searched for this many times per idle limit, which is cheaper than a timer per message.
_CHECKS = 4


class SessionSlot:
    """The slot of one open session, created by :meth:`Sessions.slot` in the session's task.

    The task reports when it starts and stops waiting for the client. To end the session, the slot cancels the task
    while it waits; :attr:`reason` then holds the error. The methods are not coroutines that wrap the waiting, because
    each of those would cost as much as reading a message.

    Attributes:
        reason: The error that ends the session; None while it is open.
    """

    def __init__(self) -> None:
        self.reason: PolicyServiceError | None = None
        self._task = asyncio.current_task()
        self._receiving = False
        self._waiting_since: float | None = None

    def receives(self) -> None:
        """Reports that the task starts waiting for the client's next message.

        Raises:
            PolicyServiceError: The session has been ended; this is the reason.
        """
        if self.reason is not None:
            raise self.reason
        self._receiving = True
        self._waiting_since = time.monotonic()

    def sends(self) -> None:
        """Reports that the task starts waiting until the client can receive a response."""
        self._waiting_since = time.monotonic()

    def works(self) -> None:
        """Reports that the task no longer waits for the client."""
        self._receiving = False
        self._waiting_since = None

    def end(self, reason: PolicyServiceError) -> None:
        """Ends the session: immediately if it waits for a message, otherwise after the current response."""
        self.reason = self.reason or reason
        if self._receiving:
            self._cancel()

    def expire(self, moment: float, reason: PolicyServiceError) -> None:
        """Ends the session if it has waited for the client since ``moment`` (``time.monotonic``) or longer."""
        if self._waiting_since is not None and self._waiting_since <= moment:
            self.reason = self.reason or reason
            self._cancel()

    def _cancel(self) -> None:
        assert self._task is not None
        self._task.cancel()


class Sessions:
    """All open sessions of a server.

    Args:
        limit: Maximum number of open sessions.
        idle_seconds: Maximum time that a session may wait for its client.
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
        """Occupies a session slot for the duration of the block.

        Raises:
            ServerBusyError: All slots are occupied.
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
        """Ends every session and refuses new ones."""
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
            loop.call_later(self._idle_seconds / _CHECKS, self._watch)


def _stopping() -> ServerUnavailableError:
    return ServerUnavailableError("the server is stopping, so the session was ended; connect again and open a new one")
