"""Worker threads: how many run at once, and which batches they take."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from pgkeras_serving.inference.cores import Cores
from pgkeras_serving.inference.warmup import Sizes
from pgkeras_serving.inference.workers import Workers
from pgkeras_serving.telemetry.metrics import Meter

from pgkeras import engines
from pgkeras.bundle import bundle
from pgkeras.engines import EngineName, noise
from pgkeras.spaces import Box, Discrete
from pgkeras.spaces.spec import DistributionKind, PolicySpec

BATCH = 16
ROUNDS = 30
SPEC = PolicySpec(
    Box(np.full(1, -1.0), np.full(1, 1.0), np.dtype(np.float32)), Discrete(2), DistributionKind.CATEGORICAL
)


class Original:
    """An engine that only counts its copies."""

    def __init__(self):
        self.copies = 0

    def copy(self):
        self.copies += 1
        return Original()


class Single(Original):
    """An engine that cannot be copied."""

    def copy(self):
        super().copy()
        raise MemoryError("no room")


def workers_of(cores, *, most=4, meter=None, engine=None):
    return Workers(
        "policy version 1", engine or Original(), Sizes(0, BATCH, (1e-4,)), most, cores, meter or Meter(SPEC)
    )


class Held:
    """Batches that run until :meth:`release`. Records which have started."""

    def __init__(self):
        self.dispatched, self.started = [], []
        self._go = threading.Event()
        self._lock = threading.Lock()

    async def fill(self, workers, rows, requests):
        """Dispatches batches until no worker accepts more; returns how many run and how many are queued."""
        before = len(self.dispatched), len(self.started)
        while place := workers.place(rows, requests):
            self.dispatched.append((workers, rows))
            place(rows, self._compute)
        dispatched = len(self.dispatched) - before[0]
        behind = workers.rows_behind // rows
        async with asyncio.timeout(20):
            while len(self.started) - before[1] < dispatched - behind:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)  # in which no further batch may start
        return len(self.started) - before[1], behind

    async def release(self):
        """Finishes all batches."""
        self._go.set()
        async with asyncio.timeout(20):
            while len(self.started) < len(self.dispatched):
                await asyncio.sleep(0.001)
        for workers, rows in self.dispatched:
            workers.done(rows)
        assert not any(workers.are_busy for workers, _ in self.dispatched)
        await asyncio.sleep(0.05)  # until the threads have stopped

    def _compute(self, engine):
        with self._lock:
            self.started.append(engine)
        assert self._go.wait(20)


@pytest.mark.parametrize(
    ("rows", "requests", "most", "cores", "computed", "behind"),
    [
        (1, 1, 4, 16, 1, 0),  # only the first worker takes a partial batch
        (BATCH, BATCH, 4, 2, 1, 1),  # many small requests: one of 2 cores is left to the event loop
        (BATCH, BATCH, 4, 4, 3, 3),  # the same with 4 cores
        (BATCH, 1, 4, 2, 2, 2),  # one large request: the event loop has little to do, so all cores are used
        (BATCH, 1, 1, 2, 1, 1),  # limited by max_engines
        (BATCH, BATCH, 2, 16, 2, 2),
        (BATCH, 1, 4, 1, 1, 1),  # limited by the cores
    ],
)
def test_the_number_of_parallel_batches(rows, requests, most, cores, computed, behind):
    async def main():
        held, workers = Held(), workers_of(Cores(cores), most=most)
        assert await held.fill(workers, rows, requests) == (computed, behind)
        assert len(set(held.started)) == computed, "each in another worker"
        await held.release()
        assert len(set(held.started)) == computed, "queued batches run in the same workers"

    asyncio.run(main())


def test_policies_share_the_cores():
    async def main():
        held, cores = Held(), Cores(3)
        here, there = workers_of(cores), workers_of(cores)
        assert await held.fill(there, 1, 1) == (1, 0)
        assert await held.fill(here, BATCH, 1) == (2, 2), "the other policy uses one of the 3 cores"
        assert await held.fill(there, BATCH, 1) == (0, 1), "no core is left"
        await held.release()

    asyncio.run(main())


def test_the_event_loops_core_is_not_used_while_another_policy_is_in_use():
    async def main():
        held, cores, meter = Held(), Cores(2), Meter(SPEC)
        here, there = workers_of(cores), workers_of(cores, meter=meter)
        now = time.perf_counter_ns()
        meter.answered({"entropy": np.zeros(1), "action": np.zeros(1, np.int64)}, False, now, now, now)
        assert await held.fill(here, BATCH, 1) == (1, 1)
        await held.release()
        held = Held()
        assert await held.fill(there, BATCH, 1) == (2, 2), "no other policy is in use"
        await held.release()

    asyncio.run(main())


def test_workers_are_reused_and_engines_are_copied_on_first_use():
    async def main():
        original = Original()
        workers, engines = workers_of(Cores(2), engine=original), set()
        for _ in range(8):
            held = Held()
            assert await held.fill(workers, BATCH, 1) == (2, 2)
            assert original in held.started
            await held.release()
            engines |= set(held.started)
        assert len(engines) == 1 + original.copies == 2

    asyncio.run(main())


@pytest.mark.parametrize(
    ("engine", "most", "alone"), [(Original(), 4, False), (Original(), 1, True), (Single(), 4, True)]
)
def test_each_of_many_batches_is_computed_once_and_in_order_by_a_single_engine(engine, most, alone, caplog):
    async def main():
        def compute(i, engine):
            computed.append(i)
            engines.add(engine)
            loop.call_soon_threadsafe(workers.done, BATCH)

        computed, engines, loop = [], set(), asyncio.get_running_loop()
        workers = workers_of(Cores(2), engine=engine, most=most)
        for i in range(5000):
            while (place := workers.place(BATCH, 1)) is None:
                await asyncio.sleep(0)
            place(BATCH, partial(compute, i))
        async with asyncio.timeout(20):
            while workers.are_busy:
                await asyncio.sleep(0.001)
        workers.close()
        return computed, engines

    computed, engines = asyncio.run(main())
    assert (computed if alone else sorted(computed)) == list(range(5000))
    assert engines == {engine} or not alone
    if isinstance(engine, Single):
        assert [record.getMessage() for record in caplog.records] == [
            "policy version 1 is limited to 1 workers: copying its engine failed: MemoryError('no room')"
        ]
        assert engine.copies == 1


@pytest.mark.parametrize("name", ["litert", "tensorflow"])
def test_a_copy_returns_the_same_as_its_original_in_parallel(policies, name: EngineName):
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
