"""Worker threads of one policy. Each owns one engine and runs one batch at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pgkeras.engines import Engine
from pgkeras_serving.inference.cores import Cores
from pgkeras_serving.inference.warmup import Sizes
from pgkeras_serving.telemetry.metrics import Meter

__all__ = ["HandOver", "Work", "Workers"]

logger = logging.getLogger(__name__)

Work = Callable[[Engine], None]
"""Computes a batch in a worker thread, with an engine that no other thread uses meanwhile. Raises nothing."""
HandOver = Callable[[int, Work], None]
"""Hands over a batch with this many rows."""


class Workers:
    """The workers of one policy.

    If all workers are idle, one takes any batch. If others are busy, a worker takes full batches only. One more full
    batch may be queued per running batch; the worker that finishes first takes it without waiting for the event loop.
    If the engine cannot be copied, the existing workers compute everything.

    Args:
        name: What the policy is called in the log.
        engine: The engine of the first worker. The others own copies.
        sizes: The size of a full batch, and the seconds per row.
        most: The maximum number of workers.
        cores: The cores that all policies share.
        meter: The policy's meter, which knows its load.
    """

    def __init__(self, name: str, engine: Engine, sizes: Sizes, most: int, cores: Cores, meter: Meter) -> None:
        self._name = name
        self._engines = [engine]
        self._free = [engine]  # no more are needed than there are threads
        self._sizes = sizes
        self._most = min(most, cores.number)
        self._cores = cores
        self._meter = meter
        cores.share(meter)
        self._threads = ThreadPoolExecutor(self._most, thread_name_prefix="pgkeras-engine")  # starts none until it must
        self._running = 0
        self._rows: list[int] = []  # of the batches that were handed over and are not done, in order
        self._works: deque[Work] = deque()  # that no worker has taken yet, in order

    @property
    def are_busy(self) -> bool:
        """Whether a batch is running or queued."""
        return bool(self._rows)

    @property
    def rows_behind(self) -> int:
        """Rows that have been handed over, but have to wait still."""
        return sum(self._rows[self._computing :])

    def place(self, rows: int, requests: int) -> HandOver | None:
        """Where what waits should be computed.

        Args:
            rows: Of all requests that wait.
            requests: How many wait, 1 or more.

        Returns:
            What takes the next batch; None: the requests should wait on, since more may come in the meantime.
        """
        if not self._rows:
            return self._start
        if rows < self._sizes.batch:
            return None
        seconds = rows / requests * self._sizes.row_seconds
        if self._spare(seconds) > 0:
            return self._start
        return self._put_behind if len(self._rows) < 2 * self._computing else None

    def free(self, seconds: float) -> int:
        """How many workers could begin at once with a request that takes so long; 1 also if it has to wait."""
        return max(1, self._spare(seconds))

    def done(self, rows: int) -> None:
        """Marks a batch with this many rows as done."""
        self._rows.remove(rows)

    def close(self) -> None:
        """Shuts the threads down. No batch may be running."""
        self._threads.shutdown(wait=False)

    @property
    def _computing(self) -> int:
        """How many workers there are at work; one that has just become free may count still."""
        return min(self._running, self._most)

    def _spare(self, request_seconds: float) -> int:
        return min(self._most - len(self._rows), self._cores.available_for(self._meter, request_seconds))

    def _start(self, rows: int, work: Work) -> None:
        self._put_behind(rows, work)
        self._run()

    def _put_behind(self, rows: int, work: Work) -> None:
        self._rows.append(rows)
        self._works.append(work)

    def _run(self) -> None:
        self._running += 1
        self._cores.acquire()
        asyncio.get_running_loop().run_in_executor(self._threads, self._compute).add_done_callback(self._stopped)

    def _compute(self) -> None:
        """Runs in a thread."""
        engine = self._take() if self._works else None  # another worker may have taken it
        if engine is None:
            return
        with contextlib.suppress(IndexError):
            while True:
                self._works.popleft()(engine)
        self._free.append(engine)

    def _take(self) -> Engine | None:
        """An engine that is free, if need be a new one; None: the batch has to wait for those that there are."""
        with contextlib.suppress(IndexError):
            return self._free.pop()
        if len(self._engines) >= self._most:
            return None
        try:
            engine = self._engines[0].copy()
        except Exception as error:  # of any kind, out of memory as a rule
            self._most = len(self._engines)
            logger.warning("%s goes on with %d of its engine: a copy failed: %r", self._name, self._most, error)
            return None
        self._engines.append(engine)
        return engine

    def _stopped(self, _: asyncio.Future[None]) -> None:
        self._running -= 1
        self._cores.release()
        # What was put behind when this worker had just looked; where the others are at it, it is theirs.
        if self._works and self._computing < min(self._most, len(self._rows)):
            self._run()
