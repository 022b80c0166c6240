"""Warm-up: runs an engine before it serves requests, and measures the best batch sizes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from pgkeras.engines import Engine, noise
from pgkeras.errors import EngineError
from pgkeras.spaces.spec import PolicySpec

__all__ = ["Sizes", "warm_up"]

# Runs up to this time may block the event loop, because a hand-over to a thread and back takes about as long.
_INLINE_SECONDS = 100e-6
# Overhead of a run in a worker thread.
_HAND_OVER_SECONDS = 100e-6
# If a run takes longer, larger batches are not measured.
_LONG_SECONDS = 20e-3
# Minimum saving, as a fraction, for which a larger batch or a split is considered worthwhile.
_WORTHWHILE = 0.05
# Minimum duration of a part of a request.
_PART_SECONDS = 10 * _HAND_OVER_SECONDS
_RUNS = 3
# Before a batch size is rejected, it is measured again: up to this many runs, or this much time. Other load on the
# processor could have caused the first result.
_MORE_RUNS, _MORE_SECONDS = 20, 10e-3


class Sizes(NamedTuple):
    """The best batch sizes for an engine.

    Args:
        inline: Rows of the largest batch that may run on the event loop; 0 for a slow engine.
        batch: Rows of the largest worthwhile batch. In larger ones, all senders wait for one run, and the engine is
            idle until they send again. If the limit was not measured, the maximum allowed.
        seconds: Measured time of runs of 1, 2, 4, ... rows.
    """

    inline: int
    batch: int
    seconds: tuple[float, ...]

    @property
    def row_seconds(self) -> float:
        """Seconds per row in the largest worthwhile batch, or in the largest one tried."""
        rows = 1 << min(self.batch.bit_length(), len(self.seconds)) - 1
        return self.run_seconds(rows) / rows

    def run_seconds(self, rows: int) -> float:
        """Seconds per batch with its hand-over, padded to a power of two; extrapolated beyond the sizes tried."""
        size = (rows - 1).bit_length()
        tried = min(size, len(self.seconds) - 1)
        return self.seconds[tried] * (1 << (size - tried)) + _HAND_OVER_SECONDS

    def part(self, rows: int, workers: int) -> int:
        """Returns the number of rows per part if a request is split among ``workers`` idle workers.

        Returns:
            ``rows`` if the request should not be split, because splitting would save too little time.
        """
        best, took = rows, self.run_seconds(rows)
        size = 1 << (rows - 1).bit_length() >> 1
        while size and (seconds := self.run_seconds(size)) >= _PART_SECONDS:
            full, rest = divmod(rows, size)
            rounds, others = divmod(full, workers)
            last = seconds if others else self.run_seconds(rest) if rest else 0.0
            if rounds * seconds + last < took * (1.0 - _WORTHWHILE):
                best, took = size, rounds * seconds + last
            size //= 2
        return best


def warm_up(
    engine: Engine, spec: PolicySpec, max_rows: int, rest_seconds: float = 0.0, known: Sizes | None = None
) -> Sizes:
    """Runs batches of 1, 2, 4, ... rows while the time per row still falls, and measures them.

    Frees the engine's memory afterwards, because most policies never receive batches of all sizes.

    Args:
        engine: The engine.
        spec: The specification of its policy.
        max_rows: Maximum rows of a batch.
        rest_seconds: Pause before each run, which leaves the processor to other work.
        known: Sizes measured for another policy with the same graph. If given, only one row is run, as a check.

    Raises:
        EngineError: The engine fails, or its outputs do not match the specification.
    """
    try:
        if known is not None:
            next(_runs(engine, spec, 1, rest_seconds))
            return known
        sizes = _measure(engine, spec, max_rows, rest_seconds)
        engine.release()
        return sizes
    except EngineError:
        raise
    except Exception as error:  # engines raise various exceptions for a graph that does not match its specification
        raise EngineError(f"the {engine.name} engine cannot run this policy: {error!r}") from error


def _measure(engine: Engine, spec: PolicySpec, max_rows: int, rest_seconds: float) -> Sizes:
    inline, rows, cost = 0, 1, float("inf")
    took: list[float] = []
    while rows <= max_rows:
        runs = _runs(engine, spec, rows, rest_seconds)
        next(runs)  # not measured: allocates memory
        seconds = min(islice(runs, _RUNS))
        took.append(seconds)
        before, cost = cost, _cost(seconds, rows)
        worthwhile = before * (1.0 - _WORTHWHILE)
        if seconds <= _INLINE_SECONDS:
            inline = rows
        elif cost > worthwhile:
            more = islice(runs, min(_MORE_RUNS, 1 + int(_MORE_SECONDS / seconds)))
            took[-1] = min(seconds, *more)
            cost = _cost(took[-1], rows)
            if cost > worthwhile:
                return Sizes(inline, rows // 2, tuple(took))
        elif seconds > _LONG_SECONDS:
            break
        rows *= 2
    return Sizes(inline, max_rows, tuple(took))


def _cost(seconds: float, rows: int) -> float:
    """Seconds per row, with the overhead of a worker thread."""
    return (seconds + _HAND_OVER_SECONDS) / rows


def _runs(engine: Engine, spec: PolicySpec, rows: int, rest_seconds: float) -> Iterator[float]:
    """Runs the engine repeatedly, each time after a pause, and yields the seconds of each run."""
    generator, layout = noise.seeded(0), spec.layout
    inputs = {
        "observation": np.zeros((rows, *layout.shape), layout.dtype),
        "noise": noise.draw(generator, spec, rows),
    }
    promised = {"action", "greedy_action", "log_prob", "entropy", *spec.parameter_outputs}
    if spec.state_size:
        inputs["state"] = np.zeros((rows, spec.state_size), np.float32)
        promised.add("next_state")
    while True:
        time.sleep(rest_seconds)
        start = time.perf_counter()
        answer = engine.act(inputs)
        yield time.perf_counter() - start
        if missing := promised - set(answer):
            raise EngineError(f"the policy's graph has no output {', '.join(sorted(missing))}")
