"""Batcher: many requests, one run of the engine.

Batching is natural: while a batch runs, requests queue, and when it is done everything queued is the next batch, as far
as larger batches take less time a row. There is no timer to tune: an idle server answers at once, and a busy one
batches as much as it must. ``scheduling.py`` decides what is computed next.

An engine that answers in less time than a hand-over to a thread takes has no use for a queue: nothing can arrive while
it holds the event loop. It runs there, and its batch is what comes in one turn of the loop.
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
    """Computes one policy for all callers.

    Args:
        engine: The policy's engine, which runs on the event loop; nobody but the workers may use it.
        sizes: Batches of up to ``sizes.inline`` rows run on the event loop, larger requests in a thread of their own;
            ``sizes.batch`` rows are the most that are put together.
        workers: Compute the batches that do not run on the event loop.
        max_queued: Most rows waiting.
        max_seconds: How long a request may wait.
        meter: Is told of waits and runs.
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
        self._turn: list[Request] = []  # what this turn of the loop has brought so far
        self._backlog = Backlog()
        self._will_hand_over = False

    def submit(
        self,
        inputs: Arrays,
        needs: frozenset[str],
        caller: Callable[[], Hashable],
        computed: Callable[[int, int], None] | None = None,
    ) -> asyncio.Future[Arrays]:
        """Evaluates the act graph on ``inputs``, perhaps together with other requests'.

        A request that is cancelled leaves the queue. When more is waiting than fits a batch, callers take turns.

        Args:
            inputs: As :meth:`pgkeras.engines.Engine.act` takes them, of at least 1 row.
            needs: Names of the graph's outputs that are wanted.
            caller: Says who asks, if that matters: one request of each may wait even if the queue is full.
            computed: Is told when the engine began with these rows and when it was done, by time.perf_counter_ns.

        Returns:
            What the engine answers for these rows; others may have had more put out. Instead of it a ServerBusyError
            if the queue is full, or the request has waited in it for too long.
        """
        loop = asyncio.get_running_loop()
        request = Request(loop.create_future(), inputs, needs, caller, time.perf_counter_ns(), computed)
        if self._is_busy or request.rows > self._sizes.inline:
            self._queue(request)
        else:
            self._turn.append(request)
            if len(self._turn) == 1:
                loop.call_soon(self._run_turn)  # not at once: requests that are ready in this turn join the batch
        return request.answer

    @property
    def queued_rows(self) -> int:
        """Observations that wait for a worker."""
        return self._backlog.rows + self._workers.rows_behind

    def close(self) -> None:
        """Shuts the worker threads down. The queue must be empty."""
        self._workers.close()

    @property
    def _is_busy(self) -> bool:
        return self._will_hand_over or self._workers.are_busy

    def _run_turn(self) -> None:
        turn, self._turn = self._turn, []
        if self._is_busy:  # a large one came in the same turn, and has the engine
            for request in turn:
                if not request.answer.done():
                    self._queue(request)
            return
        for batch in join_in_order(turn, self._sizes.inline):
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
        patience = asyncio.get_running_loop().call_later(self._max_seconds, self._refuse, request)
        request.answer.add_done_callback(partial(self._forget, request, patience))

    def _refuse(self, request: Request) -> None:
        if self._backlog.requests.remove(request) and not request.answer.done():
            waited = f"the request has waited for {self._max_seconds:g} s, the longest for this policy"
            request.answer.set_exception(ServerBusyError(waited, _RETRY_SECONDS))

    def _forget(self, request: Request, patience: asyncio.TimerHandle, _: asyncio.Future[Arrays]) -> None:
        patience.cancel()
        self._backlog.requests.remove(request)

    def _hand_over_soon(self) -> None:
        if not self._will_hand_over:
            self._will_hand_over = True
            asyncio.get_running_loop().call_soon(self._hand_over)  # not at once, likewise

    def _hand_over(self) -> None:
        self._will_hand_over = False
        loop = asyncio.get_running_loop()
        while job := next_batch(self._backlog, self._workers, self._sizes):
            hand_over, batch = job
            hand_over(batch.rows, partial(self._compute, loop, batch))

    def _compute(self, loop: asyncio.AbstractEventLoop, batch: Batch, engine: Engine) -> None:
        """Runs in a worker's thread."""
        outcome = batch.run(engine)
        loop.call_soon_threadsafe(self._done, batch, outcome)

    def _done(self, batch: Batch, outcome: BatchResult | Exception) -> None:
        self._workers.done(batch.rows)
        if self._backlog.rows:
            self._hand_over_soon()
        batch.finish(outcome, self._meter)
