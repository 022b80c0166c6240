"""Sessions: how many may be open, how long they may be idle, and how they end when the server does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from pgkeras.errors import DeadlineExceededError, PolicyServiceError, ServerBusyError, ServerUnavailableError

__all__ = ["Seat", "Sessions"]

_T = TypeVar("_T")
_R = TypeVar("_R")

_RETRY_SECONDS = 1.0
# Idle sessions are looked for so many times while one may be idle, which is cheaper than a timer per message.
_LOOKS = 4


class Seat:
    """One open session's place; made by :meth:`Sessions.seat`, and used by the task that made it."""

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._receiving = False
        self._waiting_since: float | None = None
        self._reason: PolicyServiceError | None = None

    async def receive(self, messages: AsyncIterator[_T]) -> _T | None:
        """Waits for the client's next message; None when it has closed its side.

        Raises:
            PolicyServiceError: The session has been ended; the error says why.
        """
        if self._reason is not None:
            raise self._reason
        self._receiving = True
        try:
            return await self._wait(anext(messages, None))
        finally:
            self._receiving = False

    async def send(self, writing: Awaitable[None]) -> None:
        """Waits until the client has room for an answer.

        Raises:
            PolicyServiceError: It had none for too long.
        """
        await self._wait(writing)

    def end(self, reason: PolicyServiceError) -> None:
        """Ends the session: at once if it waits for a message, else when it has sent the answer that it is at."""
        self._reason = self._reason or reason
        if self._receiving:
            self._cancel()

    def expire(self, moment: float, reason: PolicyServiceError) -> None:
        """Ends the session at once if nothing has moved since a moment of the event loop's clock."""
        if self._waiting_since is not None and self._waiting_since <= moment:
            self._reason = self._reason or reason
            self._cancel()

    async def _wait(self, other_side: Awaitable[_R]) -> _R:
        self._waiting_since = asyncio.get_running_loop().time()
        try:
            return await other_side
        except asyncio.CancelledError:
            if self._reason is None:  # it is the client who left
                raise
            raise self._reason from None
        finally:
            self._waiting_since = None

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
        self._seats: set[Seat] = set()
        self._ended = False
        self._watching = False

    def __len__(self) -> int:
        return len(self._seats)

    @contextmanager
    def seat(self) -> Iterator[Seat]:
        """Takes a place for the length of the body.

        Raises:
            ServerBusyError: There is none left.
            ServerUnavailableError: The server is stopping.
        """
        if self._ended:
            raise _stopping()
        if len(self._seats) >= self._limit:
            raise ServerBusyError(f"{self._limit} sessions are open, and no more may be", _RETRY_SECONDS)
        seat = Seat()
        self._seats.add(seat)
        if not self._watching:
            self._watching = True
            self._watch()
        try:
            yield seat
        finally:
            self._seats.discard(seat)

    def end(self) -> None:
        """Ends every session and takes no new ones."""
        self._ended = True
        for seat in self._seats:
            seat.end(_stopping())

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        idle = DeadlineExceededError(
            f"nothing was sent or received for {self._idle_seconds:g} s, so the session was ended; open a new one"
        )
        for seat in self._seats:
            seat.expire(loop.time() - self._idle_seconds, idle)
        self._watching = bool(self._seats)
        if self._watching:
            loop.call_later(self._idle_seconds / _LOOKS, self._watch)


def _stopping() -> ServerUnavailableError:
    return ServerUnavailableError("the server is stopping, so the session was ended; connect again and open a new one")
