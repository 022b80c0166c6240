"""Lowers the scheduling priority of gRPC's polling thread, so that it does not interrupt the event loop.

gRPC waits for messages in a thread of its own, which wakes up the event loop. Where both want the same core, as they
do on a machine with few of them, that thread interrupts the loop at every message, twice a call, only to tell it that
there is more to do. Linux has a scheduling class for threads that interrupt nobody, ``SCHED_BATCH``; what comes
meanwhile is then fetched at once. But such a thread does not interrupt other programs either, and where these want all
cores it would wait for milliseconds. So it is watched how long it waits, and it defers only while that is short.

The class: https://man7.org/linux/man-pages/man7/sched.7.html. The waits:
https://docs.kernel.org/scheduler/sched-stats.html, "/proc/<pid>/schedstat".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["defer"]

logger = logging.getLogger(__name__)

# Where nobody else wants the cores a wait takes 10 to 100 us, up to the loop's next pause.
_LONG_NS = 250_000
_FEWEST_WAITS = 20
_LOOK_SECONDS = 0.25
# How long it does not defer after it has waited for too long: each time twice as long, until it goes well for a while.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 1.0, 64.0
_WELL_SECONDS = 10.0


async def defer(thread: threading.Thread) -> None:
    """Keeps a thread at low priority while that does not delay it; runs until cancelled.

    Returns at once where there is no such class or no statistics of waits, where either is forbidden, and where
    somebody has chosen another class for the process already.
    """
    if sys.platform != "linux" or thread.native_id is None:
        return
    waits = Path(f"/proc/self/task/{thread.native_id}/schedstat")
    pause = _SHORTEST_PAUSE
    try:
        _, number = _waits(waits)
        if not number or os.sched_getscheduler(thread.native_id) != os.SCHED_OTHER:
            return
        while True:
            since = time.monotonic()
            with _deferring(thread.native_id):
                await _crowded(waits)
            if time.monotonic() - since > _WELL_SECONDS:
                pause = _SHORTEST_PAUSE
            logger.debug("gRPC's polling thread was kept waiting; it does not defer for %g s", pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
    except (OSError, ValueError) as error:  # a kernel that is old, fenced off, or only played
        logger.debug("gRPC's polling thread does not defer: %s", error)


@contextlib.contextmanager
def _deferring(thread: int) -> Iterator[None]:
    os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


async def _crowded(waits: Path) -> None:
    """Waits until the thread that the statistics are of has waited for a core for too long, on average."""
    while True:
        waited, number = _waits(waits)
        nanoseconds, more = waited, number
        while more - number < _FEWEST_WAITS:
            await asyncio.sleep(_LOOK_SECONDS)
            nanoseconds, more = _waits(waits)
        if nanoseconds - waited > _LONG_NS * (more - number):
            return


def _waits(statistics: Path) -> tuple[int, int]:
    """For how many nanoseconds a thread has waited for a core so far, and how often."""
    _, waited, number = map(int, statistics.read_text().split())
    return waited, number
