"""Warm-up with engines on a simulated clock."""

from __future__ import annotations

import heapq
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pgkeras_serving.inference import warmup as warming
from pgkeras_serving.inference.warmup import Sizes, warm_up

from pgkeras.errors import EngineError
from pgkeras.spaces import Box, Discrete
from pgkeras.spaces.spec import DistributionKind, PolicySpec

SPEC = PolicySpec(
    Box(np.full(1, -1.0), np.full(1, 1.0), np.dtype(np.float32)), Discrete(2), DistributionKind.CATEGORICAL
)
OUTPUTS = ("action", "greedy_action", "log_prob", "entropy", "probabilities")


class Engine:
    """Returns zeros and advances the clock by ``seconds(rows)``."""

    name = "counted"

    def __init__(self, seconds=lambda rows: 0.0, outputs=OUTPUTS, failure=None):
        self.seconds, self.outputs, self.failure = seconds, outputs, failure
        self.now, self.runs = 0.0, Counter()
        self.is_rested, self.runs_on_end = False, 0

    def rest(self, seconds):
        self.now += seconds
        self.is_rested = True

    def act(self, inputs, outputs=None):
        if self.failure is not None:
            raise self.failure
        self.runs_on_end += not self.is_rested
        self.is_rested = False
        rows = len(inputs["noise"])
        self.now += self.seconds(rows)
        self.runs[rows] += 1
        return dict.fromkeys(self.outputs, np.zeros(rows, np.float32))

    def release(self):
        self.runs_held = 0


@pytest.mark.parametrize(
    ("seconds", "inline", "batch", "largest"),
    [
        (lambda rows: 1e-6, 64, 100, 64),  # extremely fast
        (lambda rows: 55e-6 + 10e-6 * rows, 4, 100, 64),  # inline up to 4 rows; larger batches always pay
        (lambda rows: 0.5e-3, 0, 100, 64),  # mostly overhead
        (lambda rows: 0.09e-3 * rows, 1, 16, 32),  # compute-bound from a few rows on
        (lambda rows: 5e-3 * rows, 0, 1, 2),  # compute-bound from one row on: batches do not pay
        (lambda rows: 0.05, 0, 100, 1),  # too slow to measure larger batches
    ],
)
@pytest.mark.parametrize("rest_seconds", [0.0, 0.002])
def test_batches_grow_while_doubling_reduces_the_time_per_row(
    monkeypatch, rest_seconds, seconds, inline, batch, largest
):
    engine = Engine(seconds)
    clock = SimpleNamespace(perf_counter=lambda: engine.now, sleep=engine.rest)
    monkeypatch.setattr(warming, "time", clock)
    sizes = warm_up(engine, SPEC, 100, rest_seconds)
    assert engine.runs_held == 0, "the engine's memory is released"
    assert sizes[:2] == (inline, batch)
    tried = min(batch, largest)
    assert seconds(tried) / tried <= sizes.row_seconds <= (seconds(tried) + 0.2e-3) / tried
    assert engine.runs_on_end == 0
    assert list(engine.runs) == [2**i for i in range(7) if 2**i <= largest]


def test_a_few_disturbed_runs_do_not_change_the_result(monkeypatch):
    def seconds(rows):
        disturbed = rows == 8 and engine.runs[8] < 6
        return (0.09e-3 * rows + 0.1e-3) * (1.3 if disturbed else 1.0)

    engine = Engine(seconds)
    monkeypatch.setattr(warming, "time", SimpleNamespace(perf_counter=lambda: engine.now, sleep=engine.rest))
    assert warm_up(engine, SPEC, 100).batch == 32, "the same as without the disturbance"


def test_an_engine_that_does_not_match_the_spec_is_refused():
    with pytest.raises(EngineError, match="has no output entropy, probabilities"):
        warm_up(Engine(outputs=("action", "greedy_action", "log_prob")), SPEC, 4)
    with pytest.raises(EngineError, match=r"counted engine cannot run this policy.*cannot set tensor"):
        warm_up(Engine(failure=ValueError("cannot set tensor")), SPEC, 4)


@pytest.mark.parametrize(
    ("took", "rows", "workers", "part"),
    [
        ([1e-3], 32, 1, 32),  # seconds of 1, 2, 4, ... rows
        ([1e-3], 32, 2, 16),
        ([1e-3], 32, 4, 8),
        ([1e-3], 32, 3, 4),  # 3 rounds; parts of 8 take 2 rounds, parts of 16 take 1
        ([1e-4], 96, 1, 64),  # undivided, it would be padded to 128 rows
        ([1e-4], 96, 2, 16),
        ([1e-4], 200, 2, 32),
        ([1e-4], 130, 2, 64),  # 64, 64, 2
        ([1e-4], 100, 1, 32),  # 32, 32, 32, 4
        ([1e-6], 512, 4, 512),  # dispatch would dominate
        ([10e-3, 10e-3, 10e-3, 10e-3], 8, 2, 8),  # 4 rows take as long as 8
        ([3e-3, 4e-3, 6e-3, 10e-3], 8, 2, 4),
        ([1e-3], 1, 4, 1),
    ],
)
def test_requests_are_divided_if_that_is_faster(took, rows, workers, part):
    assert Sizes(0, 1, tuple(took)).part(rows, workers) == part


@given(
    seconds=st.lists(st.floats(1e-4, 1e-1), min_size=1, max_size=8).map(sorted),
    rows=st.integers(1, 700),
    workers=st.integers(1, 9),
)
def test_no_other_division_is_faster(seconds, rows, workers):
    sizes = Sizes(0, 1, tuple(seconds))

    def took(part):
        """Simulates the division: the first idle worker takes the next part."""
        ends = [0.0] * workers
        for begin in range(0, rows, part):
            end = heapq.heappop(ends) + sizes.run_seconds(min(part, rows - begin))
            heapq.heappush(ends, end)
        return max(ends)

    chosen = sizes.part(rows, workers)
    others = [2**i for i in range(10) if 2**i < rows and all(sizes.run_seconds(2**j) >= 1e-3 for j in range(i, 10))]
    assert 0.95 * took(chosen) <= min(map(took, [rows, *others])) * 1.0001
    assert chosen == rows or took(chosen) < 0.95 * took(rows)


def test_a_graph_with_known_timings_is_run_only_once():
    first, second = Engine(), Engine()
    sizes = warm_up(first, SPEC, 100)
    assert warm_up(second, SPEC, 100, known=sizes) == sizes
    assert sum(first.runs.values()) > 20
    assert second.runs == {1: 1}
