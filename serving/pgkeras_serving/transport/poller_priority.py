"""Lowers the scheduling priority of gRPC's polling thread, so that it does not interrupt the event loop.

gRPC polls for messages in a background thread, which wakes up the event loop. If both run on the same core, the thread
preempts the loop at every message, twice per call, only to report more work. Linux has a scheduling class for threads
that do not preempt others, ``SCHED_BATCH``. With it, the thread polls whenever the loop pauses and fetches all messages
that have arrived. However, such a thread does not preempt other programs either. If these use all cores, it would wait
for milliseconds. Its waiting time is therefore monitored, and the class is used only while the waits are short.

Scheduling class: https://man7.org/linux/man-pages/man7/sched.7.html. Waiting times:
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

# On otherwise idle cores, a wait takes 10 to 100 us: until the loop's next pause.
_LONG_NS = 250_000
_FEWEST_WAITS = 20
_SAMPLE_SECONDS = 0.25
# After long waits, the normal class is used for this time. It doubles each time until waits stay short for a while.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 1.0, 64.0
_WELL_SECONDS = 10.0


async def defer(thread: threading.Thread) -> None:
    """Keeps a thread in ``SCHED_BATCH`` while that does not delay it. Runs until canceled.

    Returns immediately if the class or the statistics are missing or forbidden, or if the process already has another
    scheduling class.
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
            logger.debug("gRPC's polling thread waited too long; it runs with normal priority for %g s", pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
    except (OSError, ValueError) as error:  # an old, restricted or emulated kernel
        logger.debug("gRPC's polling thread keeps its priority: %s", error)


@contextlib.contextmanager
def _deferring(thread: int) -> Iterator[None]:
    os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


async def _crowded(waits: Path) -> None:
    """Returns when the thread's average wait for a core has become too long."""
    while True:
        waited, number = _waits(waits)
        nanoseconds, more = waited, number
        while more - number < _FEWEST_WAITS:
            await asyncio.sleep(_SAMPLE_SECONDS)
            nanoseconds, more = _waits(waits)
        if nanoseconds - waited > _LONG_NS * (more - number):
            return


def _waits(statistics: Path) -> tuple[int, int]:
    """Returns the total nanoseconds for which a thread has waited for a core, and the number of waits."""
    _, waited, number = map(int, statistics.read_text().split())
    return waited, number
