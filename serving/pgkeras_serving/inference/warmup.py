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

# A run this short may hold up the event loop: handing it to a thread and back would take about as long.
_INLINE_SECONDS = 100e-6
# What a run takes beside the engine's own time.
_HAND_OVER_SECONDS = 100e-6
# Runs that take longer are not made only in order to see whether larger batches are worth it.
_LONG_SECONDS = 20e-3
# A batch, or a part, is worth it if it saves at least so much of the time a row that half as many rows take.
_WORTHWHILE = 0.05
# A part of a request takes at least so long.
_PART_SECONDS = 10 * _HAND_OVER_SECONDS
_RUNS = 3
# That a batch is not worth it is believed after so many more runs, or as many as take so long: if something else had
# wanted the processor, it would look the same.
_MORE_RUNS, _MORE_SECONDS = 20, 10e-3


class Sizes(NamedTuple):
    """How many rows an engine is best given.

    Args:
        inline: Of the largest batch that is short enough to run on the event loop; 0 for a slow engine.
        batch: Of the largest batch that is worth it: to put more together would only let the engine stand idle later,
            until all of their senders are ready again. As many as may be, where that was not found out.
        seconds: What runs of 1, 2, 4, ... rows took, as far as they were tried.
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
        """The number of rows per part of a request that this many workers can compute at the same time.

        Returns:
            ``rows`` if it should be computed at once. That, too, if parts would save little, or be mostly hand-over.
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
    """Runs batches of 1, 2, 4, ... rows as long as they are getting better, and not too long.

    The memory that they have taken is freed: few policies are asked for batches of all sizes.

    Args:
        engine: The engine.
        spec: What it is to compute.
        max_rows: Most rows in a batch.
        rest_seconds: How long to leave the processor to others before each run.
        known: What another policy with the same graph took; then one row is run, to see that the engine can.

    Raises:
        EngineError: The engine fails, or does not give what the spec promises.
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
    except Exception as error:  # a graph that does not fit its spec fails in whatever way the engine has
        raise EngineError(f"the {engine.name} engine cannot run this policy: {error!r}") from error


def _measure(engine: Engine, spec: PolicySpec, max_rows: int, rest_seconds: float) -> Sizes:
    inline, rows, cost = 0, 1, float("inf")
    took: list[float] = []
    while rows <= max_rows:
        runs = _runs(engine, spec, rows, rest_seconds)
        next(runs)  # which allocates
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
    """Seconds a row."""
    return (seconds + _HAND_OVER_SECONDS) / rows


def _runs(engine: Engine, spec: PolicySpec, rows: int, rest_seconds: float) -> Iterator[float]:
    """Runs on and on, with what each takes, in seconds; each after a rest."""
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
            raise EngineError(f"the policy's graph does not put out {', '.join(sorted(missing))}")
