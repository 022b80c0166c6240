"""Batcher: many requests, one run of the engine.

Batching is natural: while a batch runs, requests queue, and when it is done everything queued is the next batch. There
is no timer to tune; an idle server answers at once, and a busy one batches as much as it must.

An engine that answers in less time than a hand-over to a thread takes has no use for a queue: nothing can arrive while
it holds the event loop. It runs there, and its batch is what comes in one turn of the loop. Where requests keep coming
one by one, most of them run without waiting for the end of their turn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgkeras import noise
from pgkeras.engines import Engine
from pgkeras.errors import EngineError, ServerBusyError
from pgkeras.spec import PolicySpec
from pgkeras_serving.metrics import Meter
from pgkeras_serving.turns import Turns

__all__ = ["Batcher", "warm_up"]

Arrays = Mapping[str, NDArray[Any]]

# A run this short may hold up the event loop: handing it to a thread and back would take about as long.
_INLINE_SECONDS = 100e-6
_WARM_UP_RUNS = 3
_RETRY_SECONDS = 0.1
# Where turns bring one request each, it is seen every so often whether they still do.
_MOST_AT_ONCE = 15


def warm_up(engine: Engine, spec: PolicySpec, max_rows: int) -> int:
    """Runs batches of 1, 2, 4, ... rows until one is slow, so that no request meets a cold engine.

    Returns:
        The largest number of rows whose batch is short enough to run on the event loop; 0 for a slow engine.

    Raises:
        EngineError: The engine fails, or does not give what the spec promises.
    """
    try:
        return _measure(engine, spec, max_rows)
    except EngineError:
        raise
    except Exception as error:  # a graph that does not fit its spec fails in whatever way the engine has
        raise EngineError(f"the {engine.name} engine cannot run this policy: {error!r}") from error


def _measure(engine: Engine, spec: PolicySpec, max_rows: int) -> int:
    generator = noise.seeded(0)
    layout = spec.layout
    promised = {"action", "greedy_action", "log_prob", "entropy", *spec.distribution.parameters}
    if spec.state_size:
        promised.add("next_state")
    rows, inline_rows = 1, 0
    while rows <= max_rows:
        inputs: Arrays = {
            "observation": np.zeros((rows, *layout.shape), layout.dtype),
            "noise": noise.draw(generator, spec, rows),
        }
        if spec.state_size:
            inputs = {**inputs, "state": np.zeros((rows, spec.state_size), np.float32)}
        answer = engine.act(inputs)  # allocates, too
        if missing := promised - set(answer):
            raise EngineError(f"the policy's graph does not put out {', '.join(sorted(missing))}")
        if min(_seconds(engine, inputs) for _ in range(_WARM_UP_RUNS)) > _INLINE_SECONDS:
            break
        inline_rows, rows = rows, rows * 2
    return inline_rows


class _Request(NamedTuple):
    answer: asyncio.Future[Arrays]
    inputs: Arrays
    needs: frozenset[str]
    caller: Callable[[], Hashable]


class Batcher:
    """Runs one policy's engine for everybody, one batch at a time.

    Args:
        engine: The engine; nobody else may use it.
        inline_rows: Batches of up to so many rows run on the event loop, requests of more in a thread of their own.
        max_rows: Most rows in a batch.
        max_queued: Most rows waiting.
        max_seconds: How long a request may wait.
        meter: Is told of waits and runs.
    """

    def __init__(
        self, engine: Engine, inline_rows: int, max_rows: int, max_queued: int, max_seconds: float, meter: Meter
    ) -> None:
        self._engine = engine
        self._inline_rows = inline_rows
        self._max_rows = max_rows
        self._max_queued = max_queued
        self._max_seconds = max_seconds
        self._meter = meter
        self._turn: list[_Request] = []  # of the loop: what it has brought so far
        self._lonely = 0  # grows with every turn that brings one request, and starts over with one that brings more
        self._at_once = 0  # how many requests may run before it is seen again what a turn brings
        self._waiting: dict[asyncio.Future[Arrays], tuple[_Request, int]] = {}  # since when, in nanoseconds
        self._turns = Turns[asyncio.Future[Arrays]]()
        self._running = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pgkeras-engine")  # starts no thread until it must

    def run_now(self, inputs: Arrays, needs: frozenset[str]) -> Arrays | None:
        """The answer, if the engine is free and quick and nobody is expected to join in; None: it must be submitted.

        Args:
            inputs: As for :meth:`submit`.
            needs: Likewise.
        """
        if not self._at_once or self._running or self._turn or len(inputs["noise"]) > self._inline_rows:
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
            inputs: As :meth:`pgkeras.engines.Engine.act` takes them, of at least 1 and at most ``max_rows`` rows.
            needs: Names of the graph's outputs that are wanted.
            caller: Says who asks, if that matters: one request of each may wait even if the queue is full.

        Returns:
            What the engine answers for these rows; others may have had more put out. Instead of it a ServerBusyError
            if the queue is full, or the request has waited in it for too long.
        """
        loop = asyncio.get_running_loop()
        request = _Request(loop.create_future(), inputs, needs, caller)
        if self._running or len(inputs["noise"]) > self._inline_rows:
            self._queue(request)
        else:
            self._turn.append(request)
            if len(self._turn) == 1:
                loop.call_soon(self._run_turn)  # not at once: requests that are ready in this turn join the batch
        return request.answer

    def close(self) -> None:
        """Lets go of the thread; call it when nothing is queued or running."""
        self._thread.shutdown(wait=False)

    def _run_turn(self) -> None:
        turn, self._turn = self._turn, []
        if self._running:  # a large one came in the same turn, and has the engine
            for request in turn:
                if not request.answer.done():
                    self._queue(request)
            return
        self._lonely = min(2 * self._lonely + 1, _MOST_AT_ONCE) if len(turn) == 1 else 0
        self._at_once = self._lonely
        for batch in _batches(turn, self._inline_rows):
            self._run_here(batch)

    def _run_here(self, batch: list[_Request]) -> None:
        try:
            arrays, nanoseconds = self._timed(batch)
        except Exception as error:  # of any kind: whoever waits is told
            _fail(batch, error)
        else:
            self._answer(batch, arrays, nanoseconds)

    def _queue(self, request: _Request) -> None:
        answer, rows, caller = request.answer, len(request.inputs["noise"]), request.caller()
        if caller in self._turns and self._turns.rows + rows > self._max_queued:
            full = f"{self._turns.rows} observations are waiting for this policy and at most {self._max_queued} may"
            answer.set_exception(ServerBusyError(full, _RETRY_SECONDS))
            return
        loop = asyncio.get_running_loop()
        self._waiting[answer] = request, time.perf_counter_ns()
        self._turns.put(answer, rows, caller)
        if not self._running:
            self._running = True
            loop.call_soon(self._run)  # likewise
        patience = loop.call_later(self._max_seconds, self._refuse, answer)
        answer.add_done_callback(partial(self._forget, patience))

    def _forget(self, patience: asyncio.TimerHandle, answer: asyncio.Future[Arrays]) -> None:
        patience.cancel()
        self._leave(answer)

    def _leave(self, answer: asyncio.Future[Arrays]) -> bool:
        """Takes a request out of the queue; False if it is not in it any more."""
        self._waiting.pop(answer, None)
        return self._turns.remove(answer)

    def _refuse(self, answer: asyncio.Future[Arrays]) -> None:
        if self._leave(answer) and not answer.done():
            waited = f"the request has waited for {self._max_seconds:g} s, the longest for this policy"
            answer.set_exception(ServerBusyError(waited, _RETRY_SECONDS))

    def _run(self) -> None:
        batch = self._take()
        if not batch:
            self._running = False
            return
        running = asyncio.get_running_loop().run_in_executor(self._thread, self._timed, batch)
        running.add_done_callback(partial(self._finish, batch))

    def _take(self) -> list[_Request]:
        batch = []
        now = time.perf_counter_ns()
        for answer in self._turns.take(self._max_rows):
            request, since = self._waiting.pop(answer)
            batch.append(request)
            self._meter.waited(now - since)
        return batch

    def _timed(self, batch: list[_Request]) -> tuple[Arrays, int]:
        """What the engine answers, and how many nanoseconds it took."""
        inputs, needs = _join(batch)
        start = time.perf_counter_ns()
        arrays = self._engine.act(inputs, needs)
        return arrays, time.perf_counter_ns() - start

    def _finish(self, batch: list[_Request], finished: asyncio.Future[tuple[Arrays, int]]) -> None:
        error = finished.exception()
        if error is None:
            self._answer(batch, *finished.result())
        else:
            _fail(batch, error)
        self._running = bool(self._turns)
        if self._running:
            asyncio.get_running_loop().call_soon(self._run)

    def _answer(self, batch: list[_Request], arrays: Arrays, nanoseconds: int) -> None:
        """Gives everybody their rows."""
        start = 0
        for request in batch:
            stop = start + len(request.inputs["noise"])
            if not request.answer.done():
                whole = len(batch) == 1
                request.answer.set_result(arrays if whole else {name: a[start:stop] for name, a in arrays.items()})
            start = stop
        self._meter.ran(start, nanoseconds)


def _batches(requests: list[_Request], max_rows: int) -> Iterator[list[_Request]]:
    """The requests in order, in batches of at most so many rows."""
    batch: list[_Request] = []
    room = max_rows
    for request in requests:
        if request.answer.done():  # nobody waits for it any more
            continue
        rows = len(request.inputs["noise"])
        if rows > room:
            yield batch
            batch, room = [], max_rows
        batch.append(request)
        room -= rows
    if batch:
        yield batch


def _join(batch: list[_Request]) -> tuple[Arrays, frozenset[str]]:
    """The inputs of all, and what any of them needs."""
    first = batch[0]
    if len(batch) == 1:
        return first.inputs, first.needs
    needs = first.needs
    for request in batch:
        if request.needs is not needs:
            needs |= request.needs
    return {name: np.concatenate([r.inputs[name] for r in batch]) for name in first.inputs}, needs


def _fail(batch: list[_Request], error: BaseException) -> None:
    for request in batch:
        if not request.answer.done():
            request.answer.set_exception(error)


def _seconds(engine: Engine, inputs: Arrays) -> float:
    start = time.perf_counter()
    engine.act(inputs)
    return time.perf_counter() - start
