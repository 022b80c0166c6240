"""Rates and latencies of the last minute, computed from the counters once a second."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgkeras_serving.telemetry.metrics import Meter

__all__ = ["SECONDS", "Live", "Recent"]

SECONDS = 60
"""Time window of rates and latencies."""
_RATE_SECONDS = 10


@dataclass(frozen=True)
class _Sample:
    moment: float
    answers: int
    observations: int
    latencies: NDArray[np.int64]


@dataclass(frozen=True)
class Recent:
    """Load and latency of a version in the last minute.

    Args:
        answers_per_second: Answered calls and session messages per second, over the last 10 seconds.
        observations_per_second: Observations in them per second.
        p50: Median response time of the server, in milliseconds; NaN without responses.
        p99: 99th percentile of the response time, in milliseconds.
        history: Observations per second, one value per second, oldest first.
    """

    answers_per_second: float
    observations_per_second: float
    p50: float
    p99: float
    history: list[float]


class Live:
    """The last minute of one meter.

    Args:
        meter: The meter of a policy version.
        clock: Returns the time in seconds.
    """

    def __init__(self, meter: Meter, clock: Callable[[], float] = time.monotonic) -> None:
        self.meter = meter
        self._clock = clock
        self._samples: deque[_Sample] = deque(maxlen=SECONDS + 1)
        self.sample()

    def sample(self) -> None:
        """Samples the counters. Must be called once a second."""
        now = self._now()
        if self._samples and now.answers < self._samples[-1].answers:  # the meter was replaced by a new one
            self._samples.clear()
        self._samples.append(now)

    def recent(self) -> Recent:
        """Returns the load and latency of the last minute."""
        now = self._now()
        since = self._first_since(now.moment - SECONDS)
        last = self._first_since(now.moment - _RATE_SECONDS)
        elapsed = max(now.moment - last.moment, 1e-9)
        quantiles = [self.meter.seconds.quantile(share, since.latencies) / 1e6 for share in (0.5, 0.99)]
        pairs = itertools.pairwise(self._samples)
        return Recent(
            answers_per_second=(now.answers - last.answers) / elapsed,
            observations_per_second=(now.observations - last.observations) / elapsed,
            p50=quantiles[0],
            p99=quantiles[1],
            history=[(b.observations - a.observations) / max(b.moment - a.moment, 1e-9) for a, b in pairs],
        )

    def _first_since(self, moment: float) -> _Sample:
        return next((sample for sample in self._samples if sample.moment >= moment), self._samples[-1])

    def _now(self) -> _Sample:
        meter = self.meter
        meter.settle()
        counts = meter.seconds.counts.copy()
        return _Sample(self._clock(), int(counts.sum()), meter.observations, counts)
