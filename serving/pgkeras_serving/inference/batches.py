"""Requests and batches. A batch consists of several joined requests, or of a part of one large request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pgkeras.engines import Engine
from pgkeras_serving.telemetry.metrics import Meter

__all__ = ["Arrays", "Batch", "BatchResult", "Joined", "Part", "Request", "join_in_order", "split"]

Arrays = Mapping[str, NDArray[Any]]
"""Arrays with one row per observation, by their names in the act graph."""


@dataclass(eq=False, slots=True)
class Request:
    """A request to the engine.

    Args:
        answer: The future that the caller awaits.
        inputs: Inputs of the act graph, at least 1 row.
        needs: Names of the requested outputs of the graph.
        caller: Returns the caller's identity.
        since: Time of arrival, in nanoseconds.
        computed: Called with the start and the end of the computation, in nanoseconds.
    """

    answer: asyncio.Future[Arrays]
    inputs: Arrays
    needs: frozenset[str]
    caller: Callable[[], Hashable]
    since: int
    computed: Callable[[int, int], None] | None = None

    @property
    def rows(self) -> int:
        """The number of observations."""
        return len(self.inputs["noise"])


class BatchResult(NamedTuple):
    """Outputs of a batch, with the start and the end of its computation."""

    arrays: Arrays
    start: int  # nanoseconds
    end: int  # nanoseconds


class Batch(Protocol):
    """A unit of work: a worker computes it in one run of its engine."""

    @property
    def rows(self) -> int:
        """The number of observations."""
        ...

    def run(self, engine: Engine) -> BatchResult | Exception:
        """Computes the batch, in any thread. Returns an exception instead of raising it."""
        ...

    def finish(self, outcome: BatchResult | Exception, meter: Meter) -> None:
        """Resolves the requests that are complete. Runs on the event loop."""
        ...


class Joined:
    """A batch of one or more whole requests.

    Args:
        requests: At least 1.
    """

    def __init__(self, requests: Sequence[Request]) -> None:
        self.requests = requests
        self.rows = sum(request.rows for request in requests)

    def run(self, engine: Engine) -> BatchResult | Exception:
        """See :class:`Batch`. Every request gets the outputs that any of them needs."""
        first, *others = self.requests
        needs = first.needs.union(*(request.needs for request in others))
        if not others:
            return _timed(engine, lambda: first.inputs, needs)
        return _timed(engine, lambda: _joined([request.inputs for request in self.requests]), needs)

    def finish(self, outcome: BatchResult | Exception, meter: Meter) -> None:
        """See :class:`Batch`."""
        if isinstance(outcome, Exception):
            _fail(self.requests, outcome)
            return
        arrays, start = outcome.arrays, 0
        for request in self.requests:
            stop = start + request.rows
            meter.waited(outcome.start - request.since)
            if not request.answer.done():
                if request.computed is not None:
                    request.computed(outcome.start, outcome.end)
                whole = len(self.requests) == 1
                request.answer.set_result(arrays if whole else {name: a[start:stop] for name, a in arrays.items()})
            start = stop
        meter.ran(self.rows, outcome.end - outcome.start)


class Part:
    """A batch of some rows of one request.

    Args:
        request: The request.
        rows: The rows of this part.
        parts: Number of parts of the request.
        done: Results of the finished parts by their first row; shared by all parts of the request.
    """

    def __init__(self, request: Request, rows: range, parts: int, done: dict[int, BatchResult]) -> None:
        self.request = request
        self.rows = len(rows)
        self._range = rows
        self._parts = parts
        self._done = done

    def run(self, engine: Engine) -> BatchResult | Exception:
        """See :class:`Batch`."""
        rows = slice(self._range.start, self._range.stop)
        inputs = self.request.inputs
        return _timed(engine, lambda: {name: array[rows] for name, array in inputs.items()}, self.request.needs)

    def finish(self, outcome: BatchResult | Exception, meter: Meter) -> None:
        """See :class:`Batch`. The part that finishes last resolves the request."""
        request = self.request
        if isinstance(outcome, Exception):
            _fail([request], outcome)
            return
        meter.ran(self.rows, outcome.end - outcome.start)
        self._done[self._range.start] = outcome
        if request.answer.done() or len(self._done) < self._parts:
            return
        parts = [self._done[start] for start in sorted(self._done)]
        began = min(part.start for part in parts)
        meter.waited(began - request.since)
        if request.computed is not None:
            request.computed(began, max(part.end for part in parts))
        try:
            request.answer.set_result(_joined([part.arrays for part in parts]))
        except Exception as error:  # for example out of memory: fail the request, not the event loop
            _fail([request], error)


def split(request: Request, rows: int) -> list[Part]:
    """Splits a request into parts of ``rows`` rows. The last part may have fewer."""
    done: dict[int, BatchResult] = {}
    starts = range(0, request.rows, rows)
    return [Part(request, range(start, min(start + rows, request.rows)), len(starts), done) for start in starts]


def join_in_order(requests: Sequence[Request], max_rows: int) -> Iterator[Joined]:
    """Joins requests into batches of at most ``max_rows`` rows, without those that are already resolved or canceled."""
    batch: list[Request] = []
    room = max_rows
    for request in requests:
        if request.answer.done():
            continue
        if request.rows > room:
            yield Joined(batch)
            batch, room = [], max_rows
        batch.append(request)
        room -= request.rows
    if batch:
        yield Joined(batch)


def _joined(arrays: Sequence[Arrays]) -> Arrays:
    return {name: np.concatenate([some[name] for some in arrays]) for name in arrays[0]}


def _timed(engine: Engine, inputs: Callable[[], Arrays], needs: frozenset[str]) -> BatchResult | Exception:
    try:
        given = inputs()
        start = time.perf_counter_ns()
        return BatchResult(engine.act(given, needs), start, time.perf_counter_ns())
    except Exception as error:  # for example out of memory: returned, so that the requests fail and not the worker
        return error


def _fail(requests: Sequence[Request], error: Exception) -> None:
    for request in requests:
        if not request.answer.done():
            request.answer.set_exception(error)
