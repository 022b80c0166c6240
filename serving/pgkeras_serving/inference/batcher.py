"""Batcher: many requests, one run of the engine.

Batching is natural: while a batch runs, requests queue, and when it is done everything queued is the next batch, as far
as larger batches take less time a row. A batch that is full is handed over while the one before it runs, so that the
engine has not to wait for the event loop, or to another engine where a core can be had for it. A request of many rows
is computed in parts where several engines are idle. There is no timer to tune; an idle server answers at once, and a
busy one batches as much as it must.

An engine that answers in less time than a hand-over to a thread takes has no use for a queue: nothing can arrive while
it holds the event loop. It runs there, and its batch is what comes in one turn of the loop. Where requests keep coming
one by one, most of them run without waiting for the end of their turn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from functools import partial

from pgkeras.engines import Engine
from pgkeras.errors import ServerBusyError
from pgkeras_serving.inference.batches import (
    Arrays,
    Divided,
    Finish,
    Outcome,
    Request,
    Waiting,
    batches,
    fail,
    join,
    rows_of,
)
from pgkeras_serving.inference.fair_queue import FairQueue
from pgkeras_serving.inference.warmup import Sizes
from pgkeras_serving.inference.workers import Place, Workers
from pgkeras_serving.telemetry.metrics import Meter

__all__ = ["Batcher"]

_RETRY_SECONDS = 0.1
# Where turns bring one request each, it is seen every so often whether they still do.
_MOST_AT_ONCE = 15


class Batcher:
    """Computes one policy for all callers, one batch at a time in each worker.

    Args:
        engine: The policy's engine, which runs on the event loop; nobody but the workers may use it.
        sizes: Batches of up to ``sizes.inline`` rows run on the event loop, larger requests in a thread of their own;
            ``sizes.batch`` rows are the most that are put together.
        workers: Where batches are computed that are not run on the event loop.
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
        self._turn: list[Request] = []  # of the loop: what it has brought so far
        self._lonely = 0  # grows with every turn that brings one request, and starts over with one that brings more
        # How many requests may run before it is seen again what a turn brings; none where anything else waits or runs.
        self._at_once = 0
        self._waiting: dict[asyncio.Future[Arrays], Waiting] = {}
        self._backlog = FairQueue[asyncio.Future[Arrays]]()
        self._divided: Divided | None = None  # the one whose parts are being handed over
        self._is_to_run = False  # in the next turn of the loop, what waits

    def run_now(self, inputs: Arrays, needs: frozenset[str]) -> Arrays | None:
        """Runs the request synchronously if the engine is idle and no batching partner is expected, else returns None.

        Args:
            inputs: As for :meth:`submit`.
            needs: Likewise.
        """
        if not self._at_once or len(inputs["noise"]) > self._sizes.inline:
            return None
        self._at_once -= 1
        start = time.perf_counter_ns()
        answer = self._engine.act(inputs, needs)
        self._meter.ran(len(inputs["noise"]), time.perf_counter_ns() - start)
        return answer

    def submit(self, inputs: Arrays, needs: frozenset[str], caller: Callable[[], Hashable]) -> asyncio.Future[Arrays]:
        """Evaluates the act graph on ``inputs``, perhaps together with other requests'.

        A request that is cancelled leaves the queue. When more is waiting than fits a batch, callers take turns.

        Args:
            inputs: As :meth:`pgkeras.engines.Engine.act` takes them, of at least 1 row.
            needs: Names of the graph's outputs that are wanted.
            caller: Says who asks, if that matters: one request of each may wait even if the queue is full.

        Returns:
            What the engine answers for these rows; others may have had more put out. Instead of it a ServerBusyError
            if the queue is full, or the request has waited in it for too long.
        """
        self._at_once = 0
        loop = asyncio.get_running_loop()
        request = Request(loop.create_future(), inputs, needs, caller)
        if self._is_busy or request.rows > self._sizes.inline:
            self._queue(request)
        else:
            self._turn.append(request)
            if len(self._turn) == 1:
                loop.call_soon(self._run_turn)  # not at once: requests that are ready in this turn join the batch
        return request.answer

    def close(self) -> None:
        """Shuts the worker threads down. The queue must be empty."""
        self._workers.close()

    @property
    def _is_busy(self) -> bool:
        return self._is_to_run or self._workers.are_busy

    def _run_turn(self) -> None:
        turn, self._turn = self._turn, []
        if self._is_busy:  # a large one came in the same turn, and has the engine
            for request in turn:
                if not request.answer.done():
                    self._queue(request)
            return
        self._lonely = min(2 * self._lonely + 1, _MOST_AT_ONCE) if len(turn) == 1 else 0
        self._at_once = self._lonely
        for batch in batches(turn, self._sizes.inline):
            self._run_here(batch)

    def _run_here(self, batch: list[Request]) -> None:
        try:
            outcome = self._timed(batch, self._engine)
        except Exception as error:  # of any kind: whoever waits is told
            fail(batch, error)
        else:
            self._answer(batch, outcome)

    def _queue(self, request: Request) -> None:
        answer, rows, caller = request.answer, request.rows, request.caller()
        ahead = self._backlog.rows + self._workers.rows_behind + self._rows_divided
        if caller in self._backlog and ahead + rows > self._max_queued:
            full = f"{ahead} observations are waiting for this policy and at most {self._max_queued} may"
            answer.set_exception(ServerBusyError(full, _RETRY_SECONDS))
            return
        loop = asyncio.get_running_loop()
        self._waiting[answer] = Waiting(request, time.perf_counter_ns())
        self._backlog.put(answer, rows, caller)
        self._run_soon()
        patience = loop.call_later(self._max_seconds, self._refuse, answer)
        answer.add_done_callback(partial(self._forget, patience))

    def _forget(self, patience: asyncio.TimerHandle, answer: asyncio.Future[Arrays]) -> None:
        patience.cancel()
        self._leave(answer)

    def _leave(self, answer: asyncio.Future[Arrays]) -> bool:
        """Removes a request from the queue. Returns False if it is no longer queued."""
        self._waiting.pop(answer, None)
        return self._backlog.remove(answer)

    def _refuse(self, answer: asyncio.Future[Arrays]) -> None:
        if self._leave(answer) and not answer.done():
            waited = f"the request has waited for {self._max_seconds:g} s, the longest for this policy"
            answer.set_exception(ServerBusyError(waited, _RETRY_SECONDS))

    def _run_soon(self) -> None:
        if not self._is_to_run and self._next_place() is not None:
            self._is_to_run = True
            asyncio.get_running_loop().call_soon(self._run)  # not at once, likewise

    @property
    def _rows_divided(self) -> int:
        return 0 if self._divided is None else self._divided.rows_left

    def _next_place(self) -> Place | None:
        if rows := self._rows_divided:
            # As good as a full batch, however little is left: nothing else can join in.
            return self._workers.place(max(rows, self._sizes.batch), 1)
        return self._workers.place(self._backlog.rows, len(self._backlog)) if self._backlog else None

    def _run(self) -> None:
        self._is_to_run = False
        loop = asyncio.get_running_loop()
        while hand_over := self._next_place():
            batch, finish = self._next_batch()
            rows = rows_of(batch)
            hand_over(rows, partial(self._compute, loop, batch, partial(self._done, rows, finish)))

    def _next_batch(self) -> tuple[list[Request], Finish]:
        divided = self._divided
        if divided is None or not divided.rows_left:
            self._divided = None
            waiting = [self._waiting.pop(answer) for answer in self._backlog.take(self._sizes.batch)]
            batch = [one.request for one in waiting]
            rows = rows_of(batch)
            part = rows if len(batch) > 1 else self._sizes.part(rows, self._workers.free(self._sizes.run_seconds(rows)))
            if part == rows:
                return batch, partial(self._finish, waiting)
            self._divided = divided = Divided(waiting[0], part)
        number, request = divided.next_part()
        if not divided.rows_left:
            self._divided = None
        return [request], partial(self._finish_part, divided, number)

    def _compute(self, loop: asyncio.AbstractEventLoop, batch: list[Request], done: Finish, engine: Engine) -> None:
        """Runs in a worker's thread."""
        outcome: Outcome | Exception
        try:
            outcome = self._timed(batch, engine)
        except Exception as error:  # of any kind: whoever waits is told
            outcome = error
        loop.call_soon_threadsafe(done, outcome)

    def _timed(self, batch: list[Request], engine: Engine) -> Outcome:
        inputs, needs = join(batch)
        start = time.perf_counter_ns()
        return Outcome(engine.act(inputs, needs), start, time.perf_counter_ns())

    def _done(self, rows: int, finish: Finish, outcome: Outcome | Exception) -> None:
        self._workers.done(rows)
        self._run_soon()
        finish(outcome)

    def _finish(self, batch: list[Waiting], outcome: Outcome | Exception) -> None:
        requests = [waiting.request for waiting in batch]
        if isinstance(outcome, Exception):
            fail(requests, outcome)
            return
        for waiting in batch:
            self._meter.waited(outcome.start - waiting.since)
        self._answer(requests, outcome)

    def _finish_part(self, divided: Divided, number: int, outcome: Outcome | Exception) -> None:
        request, since = divided.waiting
        if isinstance(outcome, Exception):
            fail([request], outcome)
            return
        self._note(outcome)
        whole = divided.add(number, outcome)
        if whole is not None and not request.answer.done():
            self._meter.waited(whole.start - since)
            request.answer.set_result(whole.arrays)

    def _answer(self, batch: list[Request], outcome: Outcome) -> None:
        """Splits the batch result and resolves each request's future."""
        start, arrays = 0, outcome.arrays
        for request in batch:
            stop = start + request.rows
            if not request.answer.done():
                whole = len(batch) == 1
                request.answer.set_result(arrays if whole else {name: a[start:stop] for name, a in arrays.items()})
            start = stop
        self._note(outcome)

    def _note(self, outcome: Outcome) -> None:
        self._meter.ran(len(next(iter(outcome.arrays.values()))), outcome.end - outcome.start)
