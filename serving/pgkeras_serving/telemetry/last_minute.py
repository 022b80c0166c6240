"""Rates and latencies of the last minute, computed from the counters once a second."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pgkeras_serving.telemetry.metrics import Meter

__all__ = ["SECONDS", "Live", "Recent"]

SECONDS = 60
"""How far back rates and latencies go."""
_RATE_SECONDS = 10


@dataclass(frozen=True)
class _Look:
    moment: float
    answers: int
    observations: int
    latencies: NDArray[np.int64]


@dataclass(frozen=True)
class Recent:
    """How a version fared in the last minute.

    Args:
        answers_per_second: Calls and sessions' messages answered, over the last ten seconds.
        observations_per_second: Observations in them.
        p50: Median time that the server took for an answer, in milliseconds; NaN when there was none.
        p99: The 99th percentile of it.
        history: Observations per second, of every second, the oldest first.
    """

    answers_per_second: float
    observations_per_second: float
    p50: float
    p99: float
    history: list[float]


class Live:
    """The last minute of one meter.

    Args:
        meter: Whose.
        clock: Seconds.
    """

    def __init__(self, meter: Meter, clock: Callable[[], float] = time.monotonic) -> None:
        self.meter = meter
        self._clock = clock
        self._looks: deque[_Look] = deque(maxlen=SECONDS + 1)
        self.look()

    def look(self) -> None:
        """Samples the counters. Must be called once a second."""
        now = self._now()
        if self._looks and now.answers < self._looks[-1].answers:  # they are those of another one, which began anew
            self._looks.clear()
        self._looks.append(now)

    def recent(self) -> Recent:
        """The last minute until now."""
        now = self._now()
        since = self._first_since(now.moment - SECONDS)
        last = self._first_since(now.moment - _RATE_SECONDS)
        elapsed = max(now.moment - last.moment, 1e-9)
        quantiles = [self.meter.seconds.quantile(share, since.latencies) / 1e6 for share in (0.5, 0.99)]
        pairs = zip(list(self._looks)[:-1], list(self._looks)[1:], strict=True)
        return Recent(
            answers_per_second=(now.answers - last.answers) / elapsed,
            observations_per_second=(now.observations - last.observations) / elapsed,
            p50=quantiles[0],
            p99=quantiles[1],
            history=[(b.observations - a.observations) / max(b.moment - a.moment, 1e-9) for a, b in pairs],
        )

    def _first_since(self, moment: float) -> _Look:
        return next((look for look in self._looks if look.moment >= moment), self._looks[-1])

    def _now(self) -> _Look:
        meter = self.meter
        meter.settle()
        counts = meter.seconds.counts.copy()
        return _Look(self._clock(), int(counts.sum()), meter.observations, counts)
