"""Lanes: the threads in which a policy's batches are computed, each with an engine of its own."""

from __future__ import annotations

import functools
import os
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pgkeras.engines import Engine
from pgkeras_serving.metrics import Meter
from pgkeras_serving.warming import Sizes

__all__ = ["Cores", "Lane", "Lanes"]

# More than a request takes of the event loop, the transport and, on the same machine, its client. While these have more
# to do than an engine, and no core is idle, a second engine would only be in their way.
_LOOP_SECONDS = 1e-3


class Cores:
    """The cores that the engines of all policies share.

    Args:
        number: How many; None: as many as this process may use.
    """

    def __init__(self, number: int | None = None) -> None:
        self.number = number or _cores()
        self._busy = 0
        self._meters: list[weakref.ref[Meter]] = []

    def share(self, meter: Meter) -> None:
        """Lets a policy, of which a meter tells how much it is asked, take part."""
        self._meters = [known for known in self._meters if known() is not None] + [weakref.ref(meter)]

    def take(self) -> None:
        """Notes that a lane has begun to compute."""
        self._busy += 1

    def give(self) -> None:
        """Notes that a lane has nothing to compute any more."""
        self._busy -= 1

    def are_free(self, meter: Meter, request_seconds: float) -> bool:
        """Whether another engine of a policy may compute beside those that do.

        One core is the event loop's. It is taken, too, for requests with which the loop has little to do, but not while
        another policy is asked: its requests would wait for a core for milliseconds.

        Args:
            meter: The policy's.
            request_seconds: What an engine takes for a request.
        """
        if self._busy < self.number - 1:
            return True
        if self._busy >= self.number or request_seconds < _LOOP_SECONDS:
            return False
        others = (known() for known in self._meters)
        return not any(other is not None and other is not meter and other.is_asked() for other in others)


class Lane:
    """A thread that computes one batch after another.

    Args:
        load: Gives its engine, and is called when that is first needed.
        cores: What it computes on.

    Attributes:
        rows: Of the batch that is computed, and of the one behind it.
        since: When the first of them began, by time.perf_counter_ns.
        thread: Where to compute them. It is started when it is first needed.
    """

    def __init__(self, load: Callable[[], Engine], cores: Cores) -> None:
        self._load = load
        self._cores = cores
        self.rows: list[int] = []
        self.since = 0
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="pgkeras-engine")

    @functools.cached_property
    def engine(self) -> Engine:
        """The engine, for whoever computes here and nobody else."""
        return self._load()

    def add(self, rows: int) -> None:
        """Notes that a batch was handed over."""
        if not self.rows:
            self.since = time.perf_counter_ns()
            self._cores.take()
        self.rows.append(rows)

    def done(self) -> None:
        """Notes that the first batch is computed."""
        del self.rows[0]
        self.since = time.perf_counter_ns()
        if not self.rows:
            self._cores.give()


class Lanes:
    """The lanes of one policy: the first takes whatever there is, the others take full batches when it is busy.

    Args:
        engine: The first one's, of which the others have copies.
        sizes: What a full batch is, and what a row takes.
        most: How many lanes there may be.
        cores: What they compute on.
        meter: Tells how much the policy is asked.
    """

    def __init__(self, engine: Engine, sizes: Sizes, most: int, cores: Cores, meter: Meter) -> None:
        self.first = Lane(lambda: engine, cores)
        self._all = [self.first]
        self._copy = engine.copy
        self._sizes = sizes
        self._most = most
        self._cores = cores
        self._meter = meter
        cores.share(meter)

    @property
    def are_busy(self) -> bool:
        """Whether any of them has something to compute."""
        return any(lane.rows for lane in self._all)

    @property
    def rows_behind(self) -> int:
        """Rows that have been handed over, but have to wait still."""
        return sum(sum(lane.rows[1:]) for lane in self._all)

    def choose(self, rows: int, requests: int) -> Lane | None:
        """Where what waits should be computed.

        Args:
            rows: Of all requests that wait.
            requests: How many wait, 1 or more.

        Returns:
            A lane that is free, or one that computes a batch and should have the next one behind it; None: they should
            wait on, since more may come in the meantime.
        """
        if not self.first.rows:
            return self.first
        if rows < self._sizes.batch:
            return None
        if self._cores.are_free(self._meter, rows / requests * self._sizes.row_seconds):
            if free := next((lane for lane in self._all if not lane.rows), None):
                return free
            if len(self._all) < self._most:
                self._all.append(Lane(self._copy, self._cores))
                return self._all[-1]
        behind = [lane for lane in self._all if len(lane.rows) == 1]
        return min(behind, key=lambda lane: lane.since, default=None)  # the one that should be done first

    def close(self) -> None:
        """Lets go of the threads; call it when nothing is computed."""
        for lane in self._all:
            lane.thread.shutdown(wait=False)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
