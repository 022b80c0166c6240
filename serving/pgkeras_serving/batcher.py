"""Batcher: many requests, one run of the engine.

Batching is natural: while a batch runs, requests queue, and when it is done everything queued is the next batch. There
is no timer to tune; an idle server answers at once, and a busy one batches as much as it must.

An engine that answers in less time than a hand-over to a thread takes has no use for a queue: nothing can arrive while
it holds the event loop. It runs there, request by request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

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


class Batcher:
    """Runs one policy's engine for everybody, one batch at a time.

    Args:
        engine: The engine; nobody else may use it.
        inline_rows: Requests of up to so many rows run at once on the event loop, larger ones in a thread of their own.
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
        # With what they need, and when they came, in nanoseconds.
        self._waiting: dict[asyncio.Future[Arrays], tuple[Arrays, frozenset[str], int]] = {}
        self._turns = Turns[asyncio.Future[Arrays]]()
        self._running = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pgkeras-engine")  # starts no thread until it must

    def run_now(self, inputs: Arrays, needs: frozenset[str]) -> Arrays | None:
        """The answer, if the request is small enough and the engine free; None if it must be submitted.

        Args:
            inputs: As for :meth:`submit`.
            needs: Likewise.
        """
        if self._running or len(inputs["noise"]) > self._inline_rows:
            return None
        start = time.perf_counter_ns()
        answer = self._engine.act(inputs, needs)
        self._meter.ran(len(inputs["noise"]), time.perf_counter_ns() - start)
        return answer

    async def submit(self, inputs: Arrays, needs: frozenset[str], caller: Hashable = "") -> Arrays:
        """Evaluates the act graph on ``inputs``, perhaps together with other requests'.

        A request that is cancelled leaves the queue. When more is waiting than fits a batch, callers take turns.

        Args:
            inputs: As :meth:`pgkeras.engines.Engine.act` takes them, of at least 1 and at most ``max_rows`` rows.
            needs: Names of the graph's outputs that are wanted.
            caller: Who asks: one request of each may wait even if the queue is full.

        Returns:
            What the engine answers for these rows; others may have had more put out.

        Raises:
            ServerBusyError: The queue is full, or the request has waited in it for too long.
        """
        rows = len(inputs["noise"])
        if caller in self._turns and self._turns.rows + rows > self._max_queued:
            raise ServerBusyError(
                f"{self._turns.rows} observations are waiting for this policy and at most {self._max_queued} may",
                _RETRY_SECONDS,
            )
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Arrays] = loop.create_future()
        self._waiting[answer] = inputs, needs, time.perf_counter_ns()
        self._turns.put(answer, rows, caller)
        if not self._running:
            self._running = True
            loop.call_soon(self._run)  # not at once: requests that are ready in this turn of the loop join the batch
        patience = loop.call_later(self._max_seconds, self._refuse, answer)
        try:
            return await answer
        finally:
            patience.cancel()
            self._leave(answer)

    def close(self) -> None:
        """Lets go of the thread; call it when nothing is queued or running."""
        self._thread.shutdown(wait=False)

    def _leave(self, answer: asyncio.Future[Arrays]) -> bool:
        """Takes a request out of the queue; False if it is not in it any more."""
        self._waiting.pop(answer, None)
        return self._turns.remove(answer)

    def _refuse(self, answer: asyncio.Future[Arrays]) -> None:
        if self._leave(answer) and not answer.done():
            waited = f"the request has waited for {self._max_seconds:g} s, the longest for this policy"
            answer.set_exception(ServerBusyError(waited, _RETRY_SECONDS))

    def _run(self) -> None:
        batch, needs = self._take()
        if not batch:
            self._running = False
            return
        running = asyncio.get_running_loop().run_in_executor(self._thread, self._timed, _join(batch), needs)
        running.add_done_callback(partial(self._finish, batch))

    def _timed(self, inputs: Arrays, needs: frozenset[str]) -> tuple[Arrays, int]:
        start = time.perf_counter_ns()
        answer = self._engine.act(inputs, needs)
        return answer, time.perf_counter_ns() - start

    def _take(self) -> tuple[dict[asyncio.Future[Arrays], Arrays], frozenset[str]]:
        batch: dict[asyncio.Future[Arrays], Arrays] = {}
        needs: frozenset[str] = frozenset()
        now = time.perf_counter_ns()
        for answer in self._turns.take(self._max_rows):
            batch[answer], wanted, since = self._waiting.pop(answer)
            needs |= wanted
            self._meter.waited(now - since)
        return batch, needs

    def _finish(
        self, batch: dict[asyncio.Future[Arrays], Arrays], finished: asyncio.Future[tuple[Arrays, int]]
    ) -> None:
        error = finished.exception()
        arrays: Arrays = {}
        if error is None:
            arrays, nanoseconds = finished.result()
            self._meter.ran(sum(len(inputs["noise"]) for inputs in batch.values()), nanoseconds)
        start = 0
        for answer, inputs in batch.items():
            stop = start + len(inputs["noise"])
            if answer.done():
                pass
            elif error is not None:
                answer.set_exception(error)
            elif len(batch) == 1:
                answer.set_result(arrays)
            else:
                answer.set_result({name: array[start:stop] for name, array in arrays.items()})
            start = stop
        self._running = bool(self._turns)
        if self._running:
            asyncio.get_running_loop().call_soon(self._run)


def _join(batch: dict[asyncio.Future[Arrays], Arrays]) -> Arrays:
    parts = list(batch.values())
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _seconds(engine: Engine, inputs: Arrays) -> float:
    start = time.perf_counter()
    engine.act(inputs)
    return time.perf_counter() - start
