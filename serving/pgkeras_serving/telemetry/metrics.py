"""Metrics: counters of calls, at a cost of about a microsecond per call. Exporters read them elsewhere.

A call only appends a few numbers to a list. NumPy adds them up in blocks, at most 20 times a second. The distribution
of actions is sampled equally often.
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

_SAMPLE_NS = 50_000_000
_ASKED_NS = 1_000_000_000
_SLOTS = 12
_SLOT_SECONDS = 5
_MAX_ACTIONS = 256  # up to which the frequency of every action is counted
_SIZE = 64


class Histogram:
    """Counts non-negative integers by their bit length: bucket i holds 2**(i-1) to 2**i - 1."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = np.zeros(_SIZE, np.int64)
        self.total = 0

    def add(self, values: NDArray[np.int64]) -> None:
        """Adds values. They must be below 2**53, up to which floats are exact."""
        self.counts += np.bincount(np.frexp(values)[1], minlength=_SIZE)
        self.total += int(values.sum())

    def merge(self, other: Histogram) -> None:
        """Adds the counts of another histogram."""
        self.counts += other.counts
        self.total += other.total

    def quantile(self, share: float, before: NDArray[np.int64] | None = None) -> float:
        """Returns a quantile, interpolated within its bucket; NaN without values.

        Args:
            share: The quantile, from 0 to 1.
            before: Earlier counts. If given, only later values count.
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
    """Counts calls that have ended, by method and status code. A session is one call."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], int] = collections.defaultdict(int)

    def count(self, method: str, code: str) -> None:
        """Adds a call that has ended."""
        self.counts[method, code] += 1


class LastMinute:
    """Sums vectors over the last minute, in slots of 5 seconds.

    Args:
        size: Length of the vectors.
        clock: Returns the time in seconds.
    """

    def __init__(self, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._clock = clock
        self._slots: deque[tuple[int, NDArray[np.float64]]] = deque(maxlen=_SLOTS)

    def slot(self) -> NDArray[np.float64]:
        """Returns the current slot's vector, to which the caller adds."""
        number = int(self._clock() / _SLOT_SECONDS)
        if not self._slots or self._slots[-1][0] != number:
            self._slots.append((number, np.zeros(self._size)))
        return self._slots[-1][1]

    def merge(self, other: LastMinute) -> None:
        """Adds the slots of another instance with the same clock."""
        slots = dict(self._slots)
        for number, vector in other._slots:
            slots[number] = slots[number] + vector if number in slots else vector
        self._slots = deque(sorted(slots.items(), key=operator.itemgetter(0)), maxlen=_SLOTS)

    def total(self) -> NDArray[np.float64]:
        """Returns the sum over the last minute."""
        oldest = int(self._clock() / _SLOT_SECONDS) - _SLOTS
        return sum((vector for number, vector in self._slots if number > oldest), start=np.zeros(self._size))


class Meter:
    """The counters of one policy version.

    Args:
        spec: The policy's specification.

    Attributes:
        observations: Number of answered observations.
        seconds: Response times in nanoseconds, without the transport.
        queue: Waiting times of requests for their batch, in nanoseconds, including requests that ran immediately.
        inference: Durations of the engine's runs, in nanoseconds.
        encoding: Encoding times of responses, in nanoseconds.
        rows: Observations per run of the engine.
        sampled: Number of observations whose entropies and actions were sampled.
        entropy: Sum of the sampled entropies, in nats.
        sessions: Number of open sessions.
        start: The first action of a Discrete space whose action frequencies are counted; None for other spaces.
        actions: Sampled actions of the last minute: the frequency of each action; or the number of actions, the sums of
            their components, and the sums of their squares.
    """

    def __init__(self, spec: PolicySpec) -> None:
        self.observations = 0
        self.seconds = Histogram()
        self.queue = Histogram()
        self.inference = Histogram()
        self.encoding = Histogram()
        self.rows = Histogram()
        self.sampled = 0
        self.entropy = 0.0
        self._runs: list[tuple[int, int]] = []
        self._answers: list[tuple[int, int, int]] = []
        self._waits: list[int] = []
        self.sessions = 0
        space = spec.action_space
        self.start = space.start if isinstance(space, Discrete) and space.n <= _MAX_ACTIONS else None
        self._components = spec.noise_size if self.start is None else 0
        self.actions = LastMinute(space.n if isinstance(space, Discrete) and self.start is not None else self._width())
        self._next_sample = 0

    def ran(self, rows: int, nanoseconds: int) -> None:
        """Records a run of the engine."""
        self._runs.append((rows, nanoseconds))

    def waited(self, nanoseconds: int) -> None:
        """Records a request's waiting time for its batch."""
        self._waits.append(nanoseconds)

    def answered(self, answer: Mapping[str, NDArray[Any]], greedy: bool, start: int, encoding: int, end: int) -> None:
        """Records a response.

        Args:
            answer: The engine's outputs, at least the entropy and the action taken.
            greedy: Whether the greedy action was taken.
            start: Arrival of the request (``time.perf_counter_ns``, as for the next two).
            encoding: Start of the encoding.
            end: End of the encoding.
        """
        self._answers.append((len(answer["entropy"]), end - encoding, end - start))
        if end >= self._next_sample:
            self._next_sample = end + _SAMPLE_NS
            self.settle()
            self._sample(answer["entropy"], answer["greedy_action" if greedy else "action"])

    def is_asked(self) -> bool:
        """Returns whether there was a response within about the last second."""
        return time.perf_counter_ns() < self._next_sample + _ASKED_NS

    def settle(self) -> None:
        """Adds the recorded numbers to the counters. Must be called before reading them."""
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
        """Merges the meters of several processes for one policy version, except the number of open sessions."""
        total = cls(spec)
        for meter in meters:
            meter.settle()
            for name in ("seconds", "queue", "inference", "encoding", "rows"):
                getattr(total, name).merge(getattr(meter, name))
            for name in ("observations", "sampled", "entropy"):
                setattr(total, name, getattr(total, name) + getattr(meter, name))
            total.actions.merge(meter.actions)
        return total

    def spread(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns mean and standard deviation of each component of the last minute's sampled actions."""
        number, *sums = np.split(self.actions.total(), [1, 1 + self._components])
        mean, square = (vector / max(number[0], 1.0) for vector in sums)
        return mean, np.sqrt(np.maximum(square - mean**2, 0.0))

    def _width(self) -> int:
        return 1 + 2 * self._components

    def _sample(self, entropy: NDArray[Any], action: NDArray[Any]) -> None:
        self.sampled += len(entropy)
        self.entropy += float(entropy.sum())
        slot = self.actions.slot()
        if self.start is not None:
            slot += np.bincount(action.reshape(-1).astype(np.int64) - self.start, minlength=len(slot))
            return
        components = action.reshape(len(action), -1).astype(np.float64)
        slot[0] += len(components)
        slot[1 : 1 + self._components] += components.sum(axis=0)
        slot[1 + self._components :] += (components**2).sum(axis=0)
