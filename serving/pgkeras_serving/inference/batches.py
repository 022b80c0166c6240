"""Joins requests into batches, and divides one large request among idle workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Arrays", "Divided", "Finish", "Outcome", "Request", "Waiting", "batches", "fail", "join", "rows_of"]

Arrays = Mapping[str, NDArray[Any]]
"""A row for each observation, by the names of the act graph."""


class Request(NamedTuple):
    """One request for the engine, and the future that its caller awaits."""

    answer: asyncio.Future[Arrays]
    inputs: Arrays
    needs: frozenset[str]
    caller: Callable[[], Hashable]

    @property
    def rows(self) -> int:
        """The number of observations."""
        return len(self.inputs["noise"])


class Waiting(NamedTuple):
    """A request in the queue."""

    request: Request
    since: int  # in nanoseconds


class Outcome(NamedTuple):
    """The result of a batch."""

    arrays: Arrays
    start: int  # in nanoseconds, like the next
    end: int


Finish = Callable[[Outcome | Exception], None]
"""Receives the result of a batch."""


class Divided:
    """A request that is computed in parts.

    Args:
        waiting: The request.
        part: Rows in each; the last may have fewer.
    """

    def __init__(self, waiting: Waiting, part: int) -> None:
        rows = waiting.request.rows
        self.waiting = waiting
        self._parts = [slice(start, min(start + part, rows)) for start in range(0, rows, part)]
        self._next = 0
        self._outcomes: dict[int, Outcome] = {}

    @property
    def rows_left(self) -> int:
        """Rows of the parts that are still to be handed over; none when nobody waits for the answer any more."""
        if self.waiting.request.answer.done():
            return 0
        return sum(part.stop - part.start for part in self._parts[self._next :])

    def next_part(self) -> tuple[int, Request]:
        """The next part and its number."""
        number, self._next = self._next, self._next + 1
        whole, rows = self.waiting.request, self._parts[number]
        return number, whole._replace(inputs={name: array[rows] for name, array in whole.inputs.items()})

    def add(self, number: int, outcome: Outcome) -> Outcome | None:
        """Adds the result of a part. Returns the result of the whole request after the last part, else None."""
        self._outcomes[number] = outcome
        if len(self._outcomes) < len(self._parts):
            return None
        parts = [self._outcomes[i] for i in range(len(self._parts))]
        arrays = {name: np.concatenate([part.arrays[name] for part in parts]) for name in parts[0].arrays}
        return Outcome(arrays, min(part.start for part in parts), max(part.end for part in parts))


def rows_of(batch: list[Request]) -> int:
    """The total number of rows."""
    return sum(request.rows for request in batch)


def batches(requests: list[Request], max_rows: int) -> Iterator[list[Request]]:
    """The requests in order, in batches of at most so many rows."""
    batch: list[Request] = []
    room = max_rows
    for request in requests:
        if request.answer.done():  # nobody waits for it any more
            continue
        if request.rows > room:
            yield batch
            batch, room = [], max_rows
        batch.append(request)
        room -= request.rows
    if batch:
        yield batch


def join(batch: list[Request]) -> tuple[Arrays, frozenset[str]]:
    """The inputs of all, and what any of them needs."""
    first = batch[0]
    if len(batch) == 1:
        return first.inputs, first.needs
    needs = first.needs
    for request in batch:
        if request.needs is not needs:
            needs |= request.needs
    return {name: np.concatenate([r.inputs[name] for r in batch]) for name in first.inputs}, needs


def fail(batch: list[Request], error: BaseException) -> None:
    """Tells whoever waits still."""
    for request in batch:
        if not request.answer.done():
            request.answer.set_exception(error)
