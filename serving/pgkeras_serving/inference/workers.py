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
"""Computes a batch in a worker thread, with an engine that no other thread uses at the same time. Must not raise."""
HandOver = Callable[[int, Work], None]
"""Dispatches a batch, given its number of rows."""


class Workers:
    """The workers of one policy.

    If all workers are idle, one takes any batch. If others are busy, a worker takes full batches only. One more full
    batch may be queued per running batch; the worker that finishes first takes it without waiting for the event loop.
    If the engine cannot be copied, the existing workers compute everything.

    Args:
        name: Name of the policy in the log.
        engine: The engine of the first worker. The others own copies.
        sizes: The size of a full batch, and the seconds per row.
        most: Maximum number of workers.
        cores: The cores that all policies share.
        meter: The policy's meter, which measures its load.
    """

    def __init__(self, name: str, engine: Engine, sizes: Sizes, most: int, cores: Cores, meter: Meter) -> None:
        self._name = name
        self._engines = [engine]
        self._free = [engine]
        self._sizes = sizes
        self._most = min(most, cores.number)
        self._cores = cores
        self._meter = meter
        cores.share(meter)
        self._threads = ThreadPoolExecutor(self._most, thread_name_prefix="pgkeras-engine")  # starts threads lazily
        self._running = 0
        self._rows: list[int] = []  # of the dispatched batches that are not finished, in order
        self._works: deque[Work] = deque()  # dispatched, but not yet taken by a worker, in order

    @property
    def are_busy(self) -> bool:
        """Whether a batch is running or queued."""
        return bool(self._rows)

    @property
    def rows_behind(self) -> int:
        """Number of dispatched rows that still wait for a worker."""
        return sum(self._rows[self._computing :])

    def place(self, rows: int, requests: int) -> HandOver | None:
        """Returns the function that dispatches the next batch.

        Args:
            rows: Rows of all waiting requests.
            requests: Number of waiting requests, 1 or more.

        Returns:
            None if the requests should wait for more to fill a batch.
        """
        if not self._rows:
            return self._start
        if rows < self._sizes.batch:
            return None
        seconds = rows / requests * self._sizes.row_seconds
        if self._spare(seconds) > 0:
            return self._start
        return self._enqueue if len(self._rows) < 2 * self._computing else None

    def free(self, seconds: float) -> int:
        """Returns the number of workers that could start on a request of this duration now, but at least 1."""
        return max(1, self._spare(seconds))

    def done(self, rows: int) -> None:
        """Marks a batch with this many rows as done."""
        self._rows.remove(rows)

    def close(self) -> None:
        """Shuts the threads down. No batch may be running."""
        self._threads.shutdown(wait=False)

    @property
    def _computing(self) -> int:
        """Number of running workers. May include one that has just finished."""
        return min(self._running, self._most)

    def _spare(self, request_seconds: float) -> int:
        return min(self._most - len(self._rows), self._cores.available_for(self._meter, request_seconds))

    def _start(self, rows: int, work: Work) -> None:
        self._enqueue(rows, work)
        self._run()

    def _enqueue(self, rows: int, work: Work) -> None:
        self._rows.append(rows)
        self._works.append(work)

    def _run(self) -> None:
        self._running += 1
        self._cores.acquire()
        asyncio.get_running_loop().run_in_executor(self._threads, self._compute).add_done_callback(self._stopped)

    def _compute(self) -> None:
        """Computes queued batches in a worker thread until none is left."""
        engine = self._take() if self._works else None  # another worker may have taken it
        if engine is None:
            return
        with contextlib.suppress(IndexError):
            while True:
                self._works.popleft()(engine)
        self._free.append(engine)

    def _take(self) -> Engine | None:
        """Returns an idle engine, or a new copy. Returns None if all engines are busy and no other can be made."""
        with contextlib.suppress(IndexError):
            return self._free.pop()
        if len(self._engines) >= self._most:
            return None
        try:
            engine = self._engines[0].copy()
        except Exception as error:  # usually out of memory
            self._most = len(self._engines)
            logger.warning("%s is limited to %d workers: copying its engine failed: %r", self._name, self._most, error)
            return None
        self._engines.append(engine)
        return engine

    def _stopped(self, _: asyncio.Future[None]) -> None:
        self._running -= 1
        self._cores.release()
        # A batch may have been enqueued just after this worker found the queue empty. Start a worker for it, unless the
        # running ones will take it.
        if self._works and self._computing < min(self._most, len(self._rows)):
            self._run()
