"""Where a batch is computed."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pgkeras_serving.lanes import Cores, Lanes
from pgkeras_serving.metrics import Meter
from pgkeras_serving.warming import Sizes

from pgkeras import bundle, engines, noise
from pgkeras.engines import EngineName
from pgkeras.spaces import Box, Discrete
from pgkeras.spec import DistributionKind, PolicySpec

BATCH = 16
ROUNDS = 30
SPEC = PolicySpec(
    Box(np.full(1, -1.0), np.full(1, 1.0), np.dtype(np.float32)), Discrete(2), DistributionKind.CATEGORICAL
)


class Original:
    """An engine of which only copies are asked for."""

    def __init__(self):
        self.copies = 0

    def copy(self):
        self.copies += 1
        return self


def lanes_of(cores, *, most=4, meter=None):
    return Lanes(Original(), Sizes(0, BATCH, 1e-4), most, cores, meter or Meter(SPEC))


def fill(lanes, rows, requests):
    """Hands batches over until nothing may be; which lanes took them, numbered as they come up, and in the end None."""
    taken, numbers = [], {}
    while lane := lanes.choose(rows, requests):
        lane.add(rows)
        taken.append(numbers.setdefault(lane, len(numbers)))
    return taken


@pytest.mark.parametrize(
    ("rows", "requests", "most", "cores", "taken"),
    [
        (1, 1, 4, 16, [0]),  # an engine that is idle takes whatever there is, a busy one a full batch only
        (BATCH, BATCH, 4, 2, [0, 0]),  # on two cores, many small requests leave one to the loop,
        (BATCH, BATCH, 4, 4, [0, 1, 2, 0, 1, 2]),  # and where there are more cores, one as well
        (BATCH, 1, 4, 2, [0, 1, 0, 1]),  # a large one keeps an engine busier than the loop,
        (BATCH, 1, 1, 2, [0, 0]),  # but there are no more engines than are allowed,
        (BATCH, BATCH, 2, 16, [0, 1, 0, 1]),
        (BATCH, 1, 4, 1, [0, 0]),  # nor than there are cores
    ],
)
def test_batches_go_to_as_many_engines_as_can_do_them_at_the_same_time(rows, requests, most, cores, taken):
    assert fill(lanes_of(Cores(cores), most=most), rows, requests) == taken


def test_policies_share_the_cores():
    cores = Cores(3)
    here, there = lanes_of(cores), lanes_of(cores)
    there.first.add(1)
    assert fill(here, BATCH, 1) == [0, 1, 0, 1], "one of the three is taken"
    there.first.done()
    assert fill(here, BATCH, 1) == [0, 0], "a third lane, and another batch behind its first"
    assert fill(there, BATCH, 1) == [0, 0], "its own lane is always there"


def test_the_loops_core_is_not_taken_while_another_policy_is_asked():
    cores, meter = Cores(2), Meter(SPEC)
    here, there = lanes_of(cores), lanes_of(cores, meter=meter)
    now = time.perf_counter_ns()
    meter.answered({"entropy": np.zeros(1), "action": np.zeros(1, np.int64)}, False, now, now, now)
    assert fill(here, BATCH, 1) == [0, 0]
    here.first.done()
    here.first.done()
    assert fill(there, BATCH, 1) == [0, 1, 0, 1], "nobody else is asked"


def test_the_next_batch_goes_behind_the_one_that_began_first_and_to_the_first_lane_once_it_is_free():
    lanes = lanes_of(Cores(2))
    first = lanes.choose(BATCH, 1)
    first.add(BATCH)
    second = lanes.choose(BATCH, 1)
    second.add(BATCH)
    assert second is not first
    first.add(BATCH)
    first.done()  # the one behind it has just begun
    assert lanes.choose(BATCH, 1) is second
    assert (lanes.rows_behind, lanes.are_busy) == (0, True)
    first.done()
    assert lanes.choose(1, 1) is first
    second.done()
    assert not lanes.are_busy


def test_an_engine_is_copied_when_a_lane_computes_for_the_first_time():
    lanes = lanes_of(Cores(2))
    lanes.first.add(BATCH)
    other = lanes.choose(BATCH, 1)
    original = lanes.first.engine
    assert original.copies == 0
    assert other.engine is other.engine is original
    assert original.copies == 1


@pytest.mark.parametrize("name", ["litert", "tensorflow"])
def test_a_copy_computes_the_same_at_the_same_time(policies, name: EngineName):
    found = bundle.open_bundle(bundle.find(policies / "discrete"))
    generator = np.random.default_rng(0)
    batches = [
        {
            "observation": generator.normal(size=(rows, 4)).astype(np.float32),
            "noise": noise.draw(generator, found.spec, rows),
        }
        for rows in (1, 3, 64, 200)
    ]
    engine = engines.load(found, name)
    expected = [engine.act(batch) for batch in batches]

    def work(mine: engines.Engine) -> None:
        for _ in range(ROUNDS):
            for batch, answer in zip(batches, expected, strict=True):
                for key, array in mine.act(batch).items():
                    np.testing.assert_array_equal(array, answer[key])

    with ThreadPoolExecutor(2) as threads:
        for working in [threads.submit(work, mine) for mine in (engine, engine.copy())]:
            working.result()
