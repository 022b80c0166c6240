"""Starts a coroutine immediately; its result is awaited later."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from typing import Any

__all__ = ["EagerTask"]


class EagerTask:
    """Runs an awaitable up to its first suspension. Awaiting this object runs the rest, and returns its result.

    A session that sends a response and then reads the next message does not have to wake up when the response is sent.
    An asyncio task for sending would wake up, too.

    Args:
        awaitable: Started in the current task, and must be awaited there. None: nothing to wait for.
    """

    def __init__(self, awaitable: Awaitable[None] | None = None) -> None:
        self._waits_for: asyncio.Future[Any] | None = None
        self._is_over = awaitable is None
        if awaitable is None:
            return
        self._steps = awaitable.__await__()
        try:
            self._waits_for = next(self._steps)
        except StopIteration:
            self._is_over = True

    def __await__(self) -> Generator[Any, Any, None]:
        if self._is_over:
            return
        self._is_over = True
        if self._waits_for is None or not self._waits_for.done():
            yield self._waits_for
        yield from self._steps
