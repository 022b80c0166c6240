"""Batcher: computes many requests in one run of the engine.

Requests that arrive while a batch runs are queued and form the next batch, up to the size beyond which larger batches
save no time per row. No timer needs tuning: an idle server responds immediately, and a busy one batches as much as its
load requires. ``scheduling.py`` chooses the next batch.

If the engine is faster than a hand-over to a worker thread, small batches run on the event loop itself. Such a batch
contains the requests that arrive in one iteration of the loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from functools import partial

from pgkeras.engines import Engine
from pgkeras.errors import ServerBusyError
from pgkeras_serving.inference.batches import Arrays, Batch, BatchResult, Request, join_in_order
from pgkeras_serving.inference.scheduling import Backlog, next_batch
from pgkeras_serving.inference.warmup import Sizes
from pgkeras_serving.inference.workers import Workers
from pgkeras_serving.telemetry.metrics import Meter

__all__ = ["Batcher"]

_RETRY_SECONDS = 0.1


class Batcher:
    """Batches the requests of all callers of one policy.

    Args:
        engine: The engine that runs small batches on the event loop. Only ``workers`` may use it as well.
        sizes: Batches of up to ``sizes.inline`` rows run on the event loop, larger ones in a worker thread. Requests
            are joined into batches of at most ``sizes.batch`` rows.
        workers: Compute the batches that do not run on the event loop.
        max_queued: Maximum number of queued rows.
        max_seconds: Maximum time that a request may wait in the queue.
        meter: Records waiting times and runs.
    """

    def __init__(
        self, engine: Engine, sizes: Sizes, workers: Workers, max_queued: int, max_seconds: float, meter: Meter
    ) -> None:
        self._engine = engine
        self._workers = workers
        self._sizes = sizes
        self._max_queued = max_queued
        self._max_seconds = max_seconds
        self._meter = meter
        self._arrived: list[Request] = []  # in this iteration of the event loop
        self._backlog = Backlog()
        self._will_hand_over = False

    def submit(
        self,
        inputs: Arrays,
        needs: frozenset[str],
        caller: Callable[[], Hashable],
        computed: Callable[[int, int], None] | None = None,
    ) -> asyncio.Future[Arrays]:
        """Evaluates the act graph on ``inputs``, possibly in one batch with other requests.

        A canceled request leaves the queue. If more rows wait than fit into a batch, callers are served round-robin.

        Args:
            inputs: As :meth:`pgkeras.engines.Engine.act` takes them, at least 1 row.
            needs: Names of the requested outputs of the graph.
            caller: Returns the caller's identity; called only if the request is queued. One request of each caller may
                wait even if the queue is full.
            computed: Called with the start and the end of the computation (``time.perf_counter_ns``).

        Returns:
            A future of the engine's outputs for these rows. It may hold more outputs than requested. Its exception is a
            ServerBusyError if the queue is full or if the request waited too long.
        """
        loop = asyncio.get_running_loop()
        request = Request(loop.create_future(), inputs, needs, caller, time.perf_counter_ns(), computed)
        if self._is_busy or request.rows > self._sizes.inline:
            self._queue(request)
        else:
            self._arrived.append(request)
            if len(self._arrived) == 1:
                loop.call_soon(self._run_arrived)  # later in this iteration, so that other ready requests can join
        return request.answer

    @property
    def queued_rows(self) -> int:
        """Number of observations that wait for a worker."""
        return self._backlog.rows + self._workers.rows_behind

    def close(self) -> None:
        """Shuts the worker threads down. The queue must be empty."""
        self._workers.close()

    @property
    def _is_busy(self) -> bool:
        return self._will_hand_over or self._workers.are_busy

    def _run_arrived(self) -> None:
        requests, self._arrived = self._arrived, []
        if self._is_busy:  # a large request arrived in the same iteration and now uses the engine
            for request in requests:
                if not request.answer.done():
                    self._queue(request)
            return
        for batch in join_in_order(requests, self._sizes.inline):
            batch.finish(batch.run(self._engine), self._meter)

    def _queue(self, request: Request) -> None:
        backlog, caller = self._backlog, request.caller()
        backlog.drop_parts()
        ahead = self.queued_rows
        if caller in backlog.requests and ahead + request.rows > self._max_queued:
            full = f"{ahead} observations are waiting for this policy and at most {self._max_queued} may"
            request.answer.set_exception(ServerBusyError(full, _RETRY_SECONDS))
            return
        backlog.requests.put(request, request.rows, caller)
        self._hand_over_soon()
        timeout = asyncio.get_running_loop().call_later(self._max_seconds, self._time_out, request)
        request.answer.add_done_callback(partial(self._forget, request, timeout))

    def _time_out(self, request: Request) -> None:
        if self._backlog.requests.remove(request) and not request.answer.done():
            waited = f"the request has waited for {self._max_seconds:g} s, the longest for this policy"
            request.answer.set_exception(ServerBusyError(waited, _RETRY_SECONDS))

    def _forget(self, request: Request, timeout: asyncio.TimerHandle, _: asyncio.Future[Arrays]) -> None:
        timeout.cancel()
        self._backlog.requests.remove(request)

    def _hand_over_soon(self) -> None:
        if not self._will_hand_over:
            self._will_hand_over = True
            asyncio.get_running_loop().call_soon(self._hand_over)  # so that other ready requests can join

    def _hand_over(self) -> None:
        self._will_hand_over = False
        loop = asyncio.get_running_loop()
        while job := next_batch(self._backlog, self._workers, self._sizes):
            hand_over, batch = job
            hand_over(batch.rows, partial(self._compute, loop, batch))

    def _compute(self, loop: asyncio.AbstractEventLoop, batch: Batch, engine: Engine) -> None:
        """Computes a batch in a worker thread."""
        outcome = batch.run(engine)
        loop.call_soon_threadsafe(self._done, batch, outcome)

    def _done(self, batch: Batch, outcome: BatchResult | Exception) -> None:
        self._workers.done(batch.rows)
        if self._backlog.rows:
            self._hand_over_soon()
        batch.finish(outcome, self._meter)
