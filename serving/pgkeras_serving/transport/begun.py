"""Begun: something awaitable that is begun now and awaited later."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from typing import Any

__all__ = ["Begun"]


class Begun:
    """Runs an awaitable up to where it first waits; to await this one runs the rest, without a wait if that is over.

    A task that sends a message and then waits for the next one need not wake up to see that the first is out. A task
    of its own for the sending would wake up as well.

    Args:
        awaitable: It is begun in the current task, and has to be awaited there; None: there is nothing to wait for.
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
