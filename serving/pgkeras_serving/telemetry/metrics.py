"""Metrics: what is counted about calls, at about a microsecond for each; what exports it does its work elsewhere.

On a call's way nothing happens but that a few numbers are appended to a list. They are added up, many at once and by
NumPy, twenty times a second at the most. The distribution of actions is only looked at that often.
"""

from __future__ import annotations

import collections
import operator
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.spaces import Discrete
from pgkeras.spaces.spec import PolicySpec

__all__ = ["Histogram", "LastMinute", "Meter", "Requests"]

_LOOK_NS = 50_000_000
_ASKED_NS = 1_000_000_000
_SLOTS = 12
_SLOT_SECONDS = 5
_MOST_ACTIONS = 256  # of a distribution that is kept; components of more are summed up by mean and deviation
_SIZE = 64


class Histogram:
    """Counts of non-negative integers by their length in bits: bucket i has those from 2**(i-1) to 2**i - 1."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = np.zeros(_SIZE, np.int64)
        self.total = 0

    def add(self, values: NDArray[np.int64]) -> None:
        """Counts values below 2**53, which floats hold exactly."""
        self.counts += np.bincount(np.frexp(values)[1], minlength=_SIZE)
        self.total += int(values.sum())

    def merge(self, other: Histogram) -> None:
        """Counts what another one has counted, too."""
        self.counts += other.counts
        self.total += other.total

    def quantile(self, share: float, before: NDArray[np.int64] | None = None) -> float:
        """The value below which a share of all values lies, interpolated within its bucket; NaN when there are none.

        Args:
            share: From 0 to 1.
            before: Counts of an earlier moment, to look only at what came since.
        """
        counts = self.counts if before is None else self.counts - before
        wanted = share * int(counts.sum())
        if wanted <= 0:
            return float("nan")
        for i, count in enumerate(counts.tolist()):
            if count and wanted <= count:
                low = 0 if i == 0 else 2 ** (i - 1)
                return float(low + (2**i - low) * wanted / count)
            wanted -= count
        raise AssertionError("the share is beyond 1")


class Requests:
    """How many calls have ended, by method and status code; a session is one call."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], int] = collections.defaultdict(int)

    def count(self, method: str, code: str) -> None:
        """Counts a call that has ended."""
        self.counts[method, code] += 1


class LastMinute:
    """Sums of vectors over the last minute, in slots of five seconds.

    Args:
        size: Their length.
        clock: Seconds.
    """

    def __init__(self, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._clock = clock
        self._slots: deque[tuple[int, NDArray[np.float64]]] = deque(maxlen=_SLOTS)

    def slot(self) -> NDArray[np.float64]:
        """The vector to add to now."""
        number = int(self._clock() / _SLOT_SECONDS)
        if not self._slots or self._slots[-1][0] != number:
            self._slots.append((number, np.zeros(self._size)))
        return self._slots[-1][1]

    def merge(self, other: LastMinute) -> None:
        """Adds what another one has, whose clock is the same."""
        slots = dict(self._slots)
        for number, vector in other._slots:
            slots[number] = slots[number] + vector if number in slots else vector
        self._slots = deque(sorted(slots.items(), key=operator.itemgetter(0)), maxlen=_SLOTS)

    def total(self) -> NDArray[np.float64]:
        """The sum over the last minute."""
        oldest = int(self._clock() / _SLOT_SECONDS) - _SLOTS
        return sum((vector for number, vector in self._slots if number > oldest), start=np.zeros(self._size))


class Meter:
    """The counters of one policy version.

    Args:
        spec: What it does.

    Attributes:
        observations: How many were answered.
        seconds: Nanoseconds from a request's arrival to its answer, but for the transport.
        queue: Nanoseconds that each request waited for its batch, those that ran at once included.
        inference: Nanoseconds of each run of the engine.
        encoding: Nanoseconds of each answer's encoding.
        rows: Observations of each run of the engine.
        looked: How many observations' answers were looked at.
        entropy: The sum of the entropies of those, in nats.
    """

    def __init__(self, spec: PolicySpec) -> None:
        self.observations = 0
        self.seconds = Histogram()
        self.queue = Histogram()
        self.inference = Histogram()
        self.encoding = Histogram()
        self.rows = Histogram()
        self.looked = 0
        self.entropy = 0.0
        self._runs: list[tuple[int, int]] = []
        self._answers: list[tuple[int, int, int]] = []
        self._waits: list[int] = []
        self.sessions = 0
        """Sessions that are open."""
        space = spec.action_space
        self.start = space.start if isinstance(space, Discrete) and space.n <= _MOST_ACTIONS else None
        """The first action, where how often each was chosen is counted."""
        self._components = spec.noise_size if self.start is None else 0
        self.actions = LastMinute(space.n if isinstance(space, Discrete) and self.start is not None else self._width())
        """Over the last minute, of what was looked at: how often each action was chosen; or number, sums and sums of
        squares of their components."""
        self._next_look = 0

    def ran(self, rows: int, nanoseconds: int) -> None:
        """Counts a run of the engine."""
        self._runs.append((rows, nanoseconds))

    def waited(self, nanoseconds: int) -> None:
        """Counts a request's wait for its batch."""
        self._waits.append(nanoseconds)

    def answered(self, answer: Mapping[str, NDArray[Any]], greedy: bool, start: int, encoding: int, end: int) -> None:
        """Counts an answer.

        Args:
            answer: What the engine gave: the entropy and the action that was taken, at least.
            greedy: Whether the greedy action was taken.
            start: When the request came, by time.perf_counter_ns, like the next two.
            encoding: When its encoding began.
            end: When it ended.
        """
        self._answers.append((len(answer["entropy"]), end - encoding, end - start))
        if end >= self._next_look:
            self._next_look = end + _LOOK_NS
            self.settle()
            self._look(answer["entropy"], answer["greedy_action" if greedy else "action"])

    def is_asked(self) -> bool:
        """Whether there was an answer within about the last second."""
        return time.perf_counter_ns() < self._next_look + _ASKED_NS

    def settle(self) -> None:
        """Adds up what has been noted; call it before reading."""
        for notes, histograms in (
            (self._runs, (self.rows, self.inference)),
            (self._answers, (None, self.encoding, self.seconds)),
            (self._waits, (self.queue,)),
        ):
            if notes:
                columns = np.array(notes, np.int64).reshape(len(notes), -1).T
                for histogram, column in zip(histograms, columns, strict=True):
                    if histogram is None:
                        self.observations += int(column.sum())
                    else:
                        histogram.add(column)
                notes.clear()

    @classmethod
    def merged(cls, spec: PolicySpec, meters: Iterable[Meter]) -> Meter:
        """What meters of one policy version have counted, each of another process; not the sessions that are open."""
        total = cls(spec)
        for meter in meters:
            meter.settle()
            for name in ("seconds", "queue", "inference", "encoding", "rows"):
                getattr(total, name).merge(getattr(meter, name))
            for name in ("observations", "looked", "entropy"):
                setattr(total, name, getattr(total, name) + getattr(meter, name))
            total.actions.merge(meter.actions)
        return total

    def spread(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation of each component of the last minute's actions."""
        number, *sums = np.split(self.actions.total(), [1, 1 + self._components])
        mean, square = (vector / max(number[0], 1.0) for vector in sums)
        return mean, np.sqrt(np.maximum(square - mean**2, 0.0))

    def _width(self) -> int:
        return 1 + 2 * self._components

    def _look(self, entropy: NDArray[Any], action: NDArray[Any]) -> None:
        self.looked += len(entropy)
        self.entropy += float(entropy.sum())
        slot = self.actions.slot()
        if self.start is not None:
            slot += np.bincount(action.reshape(-1).astype(np.int64) - self.start, minlength=len(slot))
            return
        components = action.reshape(len(action), -1).astype(np.float64)
        slot[0] += len(components)
        slot[1 : 1 + self._components] += components.sum(axis=0)
        slot[1 + self._components :] += (components**2).sum(axis=0)
