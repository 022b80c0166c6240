"""The batcher, with an engine whose runs block until the test releases them."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import numpy as np
import pytest
from pgkeras_serving.inference.batcher import Batcher
from pgkeras_serving.inference.cores import Cores
from pgkeras_serving.inference.warmup import Sizes
from pgkeras_serving.inference.workers import Workers
from pgkeras_serving.telemetry.metrics import Meter

from pgkeras.errors import ServerBusyError
from pgkeras.spaces import Box, Discrete
from pgkeras.spaces.spec import DistributionKind, PolicySpec

SPEC = PolicySpec(
    Box(np.full(1, -1.0), np.full(1, 1.0), np.dtype(np.float32)), Discrete(2), DistributionKind.CATEGORICAL
)


ACTION = frozenset({"action"})


class HeldEngine:
    """Returns 10 times each row. Every run waits for :attr:`go` and records its size, outputs and thread."""

    name = "held"

    def __init__(self, held=True):
        self.go = threading.Semaphore(0) if held else threading.Semaphore(10**6)
        self.batches = []
        self.outputs = []
        self.threads = set()
        self.failure = None
        self.copies = 0

    def copy(self):
        self.copies += 1
        return self

    def act(self, inputs, outputs=None):
        self.outputs.append(outputs)
        self.batches.append(len(inputs["noise"]))
        self.threads.add(threading.current_thread())
        assert self.go.acquire(timeout=20)
        if self.failure:
            raise self.failure
        return {"action": inputs["observation"][:, 0] * 10}


def batcher_of(engine, **limits):
    """A batcher with ample limits and without inline runs, except for the ``limits`` given."""
    settings = {
        "inline_rows": 0,
        "max_rows": 100,
        "row_seconds": 0.0,
        "max_queued": 100,
        "max_seconds": 60.0,
        "workers": 1,
    }
    settings |= limits
    sizes = Sizes(settings.pop("inline_rows"), settings.pop("max_rows"), (settings.pop("row_seconds"),))
    meter = Meter(SPEC)
    workers = Workers("policy version 1", engine, sizes, settings.pop("workers"), Cores(2), meter)
    return Batcher(engine, sizes, workers, **settings, meter=meter)


def ask(batcher, inputs, needs=ACTION, caller=""):
    return batcher.submit(inputs, needs, lambda: caller)


async def busy(engine, **limits):
    """A batcher whose engine is running a first request, of observation 0."""
    batcher = batcher_of(engine, **limits)
    first = ask(batcher, rows(0))
    await until(lambda: engine.batches == [1])
    return batcher, first


def rows(*values):
    observation = np.array(values, np.float32)[:, None]
    return {"observation": observation, "noise": np.zeros((len(values), 1), np.float32)}


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


def test_requests_queued_during_a_run_form_the_next_batch():
    async def main():
        engine = HeldEngine()
        batcher, first = await busy(engine)
        rest = [ask(batcher, rows(i, -i)) for i in range(1, 6)]
        await settle()
        engine.go.release(2)
        answers = [await task for task in (first, *rest)]
        batcher.close()
        return engine, answers

    engine, answers = asyncio.run(main())
    assert engine.batches == [1, 10]
    assert [answer["action"].tolist() for answer in answers] == [[0]] + [[10 * i, -10 * i] for i in range(1, 6)]
    assert threading.main_thread() not in engine.threads
    assert len(engine.threads) == 1


def test_a_batch_computes_the_union_of_its_requests_outputs():
    async def main():
        engine = HeldEngine(held=False)
        batcher = batcher_of(engine, inline_rows=9)
        await ask(batcher, rows(1))
        await asyncio.gather(*(ask(batcher, rows(1), ACTION | {name}) for name in ("entropy", "log_prob", "entropy")))
        return engine.outputs

    assert asyncio.run(main()) == [{"action"}, {"action", "entropy", "log_prob"}]


def test_a_fast_engine_runs_the_requests_of_one_loop_iteration_inline_in_one_batch():
    async def main():
        engine = HeldEngine(held=False)
        batcher = batcher_of(engine, inline_rows=8)
        answers = await asyncio.gather(*(ask(batcher, rows(*range(i))) for i in (3, 1, 4, 2, 8)))
        return engine, answers

    engine, answers = asyncio.run(main())
    assert [answer["action"].tolist() for answer in answers] == [[10 * j for j in range(i)] for i in (3, 1, 4, 2, 8)]
    assert engine.batches == [8, 2, 8]
    assert engine.threads == {threading.main_thread()}


def test_a_request_cancelled_in_the_same_loop_iteration_is_not_run():
    async def main():
        engine = HeldEngine(held=False)
        batcher = batcher_of(engine, inline_rows=8)
        leaving, staying = ask(batcher, rows(1, 2)), ask(batcher, rows(3))
        leaving.cancel()
        return (await staying)["action"].tolist(), engine.batches

    assert asyncio.run(main()) == ([30], [1])


def test_a_small_request_waits_for_a_running_large_one():
    async def main():
        engine = HeldEngine()
        batcher = batcher_of(engine, inline_rows=1)
        engine.go.release()
        await ask(batcher, rows(0))
        large = ask(batcher, rows(1, 2))
        await until(lambda: engine.batches == [1, 2])
        small = ask(batcher, rows(3))
        await settle()
        assert engine.batches == [1, 2]
        engine.go.release(4)
        answers = [(await request)["action"].tolist() for request in (large, small)]
        return [*answers, (await ask(batcher, rows(4)))["action"].tolist()]

    assert asyncio.run(main()) == [[10, 20], [30], [40]]


def test_a_small_request_joins_a_later_large_one_of_the_same_loop_iteration():
    async def main():
        engine = HeldEngine(held=False)
        batcher = batcher_of(engine, inline_rows=1)
        small, leaving, large = ask(batcher, rows(1)), ask(batcher, rows(2)), ask(batcher, rows(3, 4))
        leaving.cancel()
        answers = [(await request)["action"].tolist() for request in (small, large)]
        batcher.close()
        return answers, engine.batches, threading.main_thread() in engine.threads

    assert asyncio.run(main()) == ([[10], [30, 40]], [3], False)


def test_a_batch_has_at_most_max_rows_and_order_is_kept():
    async def main():
        engine = HeldEngine(held=False)
        batcher = batcher_of(engine, max_rows=5)
        answers = await asyncio.gather(*(ask(batcher, rows(i, i)) for i in range(6)))
        batcher.close()
        return engine.batches, [answer["action"][0] for answer in answers]

    batches, answers = asyncio.run(main())
    assert batches == [4, 4, 4]
    assert answers == [0, 10, 20, 30, 40, 50]


def test_a_full_queue_refuses_requests_until_it_empties():
    async def main():
        engine = HeldEngine()
        batcher, running = await busy(engine, max_rows=10, max_queued=4)
        waiting = ask(batcher, rows(1, 2, 3))
        await settle()
        with pytest.raises(ServerBusyError, match=r"3 observations are waiting.*at most 4") as caught:
            await ask(batcher, rows(4, 5))
        assert caught.value.retry_after > 0
        engine.go.release(3)
        await asyncio.gather(running, waiting)
        await ask(batcher, rows(4, 5))
        batcher.close()
        return engine.batches

    assert asyncio.run(main()) == [1, 3, 2]


def test_a_cancelled_request_leaves_the_queue():
    async def main():
        engine = HeldEngine()
        batcher, running = await busy(engine, max_rows=10, max_queued=4)
        waiting = ask(batcher, rows(6))
        leaving = ask(batcher, rows(1, 2, 3))
        await settle()
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        staying = ask(batcher, rows(7, 8, 9))  # fits only because the cancelled request left
        await settle()
        engine.go.release(2)
        answers = [(await task)["action"].tolist() for task in (running, waiting, staying)]
        batcher.close()
        return engine.batches, answers

    assert asyncio.run(main()) == ([1, 4], [[0], [60], [70, 80, 90]])


def test_a_request_that_waits_for_too_long_is_refused_and_leaves_the_queue():
    async def main():
        engine = HeldEngine()
        batcher, running = await busy(engine, max_rows=10, max_queued=4, max_seconds=0.02)
        waiting = ask(batcher, rows(1, 2, 3))
        with pytest.raises(ServerBusyError, match=r"has waited for 0.02 s") as caught:
            await waiting
        assert caught.value.retry_after > 0
        batcher._max_seconds = 60.0
        staying = ask(batcher, rows(4, 5, 6))  # fits only because the refused request left
        await settle()
        engine.go.release(2)
        answers = [(await task)["action"].tolist() for task in (running, staying)]
        batcher.close()
        return engine.batches, answers

    assert asyncio.run(main()) == ([1, 3], [[0], [40, 50, 60]])  # the limit does not apply to a running batch


def test_a_request_cancelled_while_it_runs_affects_no_other():
    async def main():
        engine = HeldEngine()
        batcher = batcher_of(engine, max_rows=10, max_queued=10)
        tasks = [ask(batcher, rows(i)) for i in range(2)]
        await until(lambda: engine.batches == [2])
        tasks[0].cancel()
        await settle()
        engine.go.release()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        batcher.close()
        return answers

    cancelled, answer = asyncio.run(main())
    assert isinstance(cancelled, asyncio.CancelledError)
    assert answer["action"].tolist() == [10]


@pytest.mark.parametrize("inline_rows", [0, 10])
def test_an_engine_error_fails_only_its_own_batch(inline_rows):
    async def main():
        engine = HeldEngine(held=False)
        batcher = batcher_of(engine, inline_rows=inline_rows, max_rows=10, max_queued=10)
        engine.failure = ZeroDivisionError("broken")
        failed = await asyncio.gather(*(ask(batcher, rows(i)) for i in range(3)), return_exceptions=True)
        engine.failure = None
        answer = await ask(batcher, rows(4))
        batcher.close()
        return failed, answer["action"].tolist()

    failed, answer = asyncio.run(main())
    assert [type(error) for error in failed] == [ZeroDivisionError] * 3
    assert answer == [40]


def test_one_full_batch_is_dispatched_behind_a_running_one():
    async def main():
        engine = HeldEngine()
        batcher, first = await busy(engine, max_rows=2)
        later = [ask(batcher, rows(i, i), caller=str(i)) for i in range(1, 4)]
        await settle()
        single = ask(batcher, rows(7), caller="early")  # queued after the dispatched batch, with the others
        await settle()
        dispatched = [*batcher._workers._rows]
        later[1].cancel()  # not dispatched yet
        engine.go.release(9)
        answers = [(await request)["action"].tolist() for request in (first, later[0], later[2], single)]
        batcher.close()
        return dispatched, engine.batches, answers

    dispatched, batches, answers = asyncio.run(main())
    assert dispatched == [1, 2]
    assert batches == [1, 2, 2, 1]
    assert answers == [[0], [10, 10], [30, 30], [70]]


def test_full_batches_of_a_slow_engine_run_in_parallel():
    async def main():
        engine = HeldEngine()
        batcher, first = await busy(engine, max_rows=2, row_seconds=1.0, workers=2)
        early = ask(batcher, rows(7), caller="early")
        await settle()
        assert engine.batches == [1], "a partial batch waits for more requests while another runs"
        later = [ask(batcher, rows(i, i), caller=str(i)) for i in range(1, 5)]
        await until(lambda: len(engine.batches) == 2)
        await settle()
        threads, behind = len(engine.threads), batcher._workers.rows_behind
        engine.go.release(9)
        answers = [(await request)["action"].tolist() for request in (first, early, *later)]
        batcher.close()
        return engine, threads, behind, answers

    engine, threads, behind, answers = asyncio.run(main())
    assert (threads, engine.copies) == (2, 1)
    assert behind == 4, "one full batch queued behind each of the two"
    assert sorted(engine.batches) == [1, 1, 2, 2, 2, 2]
    assert answers == [[0], [70], [10, 10], [20, 20], [30, 30], [40, 40]]


def test_requests_succeed_if_an_engine_cannot_be_copied():
    class Single(HeldEngine):
        def copy(self):
            raise MemoryError("no room")

    async def main():
        engine = Single()
        batcher, first = await busy(engine, max_rows=2, row_seconds=1.0, workers=2)
        later = [ask(batcher, rows(i, i), caller=str(i)) for i in range(1, 5)]
        await settle()
        engine.go.release(9)
        async with asyncio.timeout(20):
            answers = [(await request)["action"].tolist() for request in (first, *later)]
        batcher.close()
        return engine, answers

    engine, answers = asyncio.run(main())
    assert answers == [[0], [10, 10], [20, 20], [30, 30], [40, 40]]
    assert sorted(engine.batches) == [1, 2, 2, 2, 2]


def test_a_large_request_is_divided_among_workers():
    async def main():
        engine = HeldEngine()
        batcher = batcher_of(engine, max_rows=2, row_seconds=1.0, workers=2)
        large = ask(batcher, rows(1, 2, 3, 4, 5, 6, 7, 8, 9), caller="large")
        await until(lambda: len(engine.batches) == 2)
        later = ask(batcher, rows(10), caller="later")
        await settle()
        behind = batcher._workers.rows_behind
        engine.go.release(9)
        answers = [(await request)["action"].tolist() for request in (large, later)]
        batcher.close()
        return engine, behind, answers

    engine, behind, answers = asyncio.run(main())
    assert len(engine.threads) == 2
    assert behind == 1, "the last part"
    assert sorted(engine.batches) == [1, 1, 4, 4]
    assert answers == [[10, 20, 30, 40, 50, 60, 70, 80, 90], [100]]


def test_a_large_request_is_not_divided_while_other_workers_are_busy():
    async def main():
        engine = HeldEngine()
        batcher, first = await busy(engine, max_rows=2, row_seconds=1.0, workers=2)
        second, third = ask(batcher, rows(*range(8)), caller="a"), ask(batcher, rows(*range(4)), caller="b")
        await until(lambda: len(engine.batches) == 2)
        engine.go.release(9)
        await asyncio.gather(first, second, third)
        batcher.close()
        return engine.batches

    assert sorted(asyncio.run(main())) == [1, 4, 8]


# At 1 s per row, one engine needs 21 s for 21 rows in parts of 4, and 32 s for one run padded to 32 rows.
LARGE = {"max_rows": 2, "row_seconds": 1.0}


def test_unfinished_parts_of_a_request_count_as_queued():
    async def main():
        engine = HeldEngine()
        batcher = batcher_of(engine, **LARGE, max_queued=17)
        large = ask(batcher, rows(*range(21)))
        await until(lambda: engine.batches == [4])
        first, second = ask(batcher, rows(1)), ask(batcher, rows(2))
        with pytest.raises(ServerBusyError, match="18 observations are waiting"):  # 17 belong to the large request
            await second
        engine.go.release(9)
        await asyncio.gather(large, first)
        batcher.close()
        return engine.batches

    assert asyncio.run(main()) == [4, 4, 4, 4, 4, 1, 1]


@pytest.mark.parametrize("how", ["cancelled", "failed"])
def test_parts_of_a_cancelled_or_failed_request_are_not_computed(how):
    async def main():
        engine = HeldEngine()
        batcher = batcher_of(engine, **LARGE)
        large = ask(batcher, rows(*range(21)))
        await until(lambda: engine.batches == [4])
        if how == "cancelled":
            large.cancel()
        else:
            engine.failure = ZeroDivisionError("broken")
        engine.go.release(1)
        outcome = (await asyncio.gather(large, return_exceptions=True))[0]
        engine.failure = None
        later = ask(batcher, rows(7))
        engine.go.release(9)
        answer = (await later)["action"].tolist()
        batcher.close()
        return engine.batches, type(outcome), answer

    batches, outcome, answer = asyncio.run(main())
    assert outcome is (asyncio.CancelledError if how == "cancelled" else ZeroDivisionError)
    assert answer == [70]
    assert batches == [4, 4, 1], "the part that was already dispatched still runs"


def test_a_started_request_is_not_refused_for_waiting():
    async def main():
        engine = HeldEngine()
        batcher = batcher_of(engine, **LARGE, max_seconds=0.02)
        large = ask(batcher, rows(*range(21)))
        await until(lambda: engine.batches == [4])
        await asyncio.sleep(0.1)
        engine.go.release(9)
        answer = (await large)["action"].tolist()
        batcher.close()
        return answer

    assert asyncio.run(main()) == [10 * i for i in range(21)]


def test_a_request_of_more_rows_than_a_batch_runs_alone():
    async def main():
        engine = HeldEngine()
        batcher, first = await busy(engine, max_rows=2)
        others = [ask(batcher, rows(*range(n)), caller=str(n)) for n in (1, 5, 1)]
        await settle()
        engine.go.release(9)
        answers = [(await request)["action"].tolist() for request in (first, *others)]
        batcher.close()
        return engine.batches, answers

    batches, answers = asyncio.run(main())
    assert batches == [1, 1, 5, 1]
    assert answers == [[0], [0], [0, 10, 20, 30, 40], [0]]


def test_a_callers_first_request_is_accepted_although_others_fill_the_queue():
    async def main():
        engine = HeldEngine()
        batcher = batcher_of(engine, max_rows=3, max_queued=9)
        flood = [ask(batcher, rows(0, 0, 0), caller="flood")]
        await until(lambda: engine.batches == [3])
        flood += [ask(batcher, rows(i, i, i), caller="flood") for i in (1, 2, 3)]
        await settle()
        with pytest.raises(ServerBusyError):
            await ask(batcher, rows(9), caller="flood")
        modest = ask(batcher, rows(7), caller="modest")
        await settle()
        with pytest.raises(ServerBusyError):
            await ask(batcher, rows(8), caller="modest")
        engine.go.release(4)
        await modest
        waiting = sum(not task.done() for task in flood)
        engine.go.release(1)
        await asyncio.gather(*flood)
        batcher.close()
        return waiting

    assert asyncio.run(main()) == 1, "it runs before the last request of the flood"


def test_finished_requests_are_released():
    async def main():
        batcher = batcher_of(HeldEngine(held=False))  # the timer that limits waiting would run for 60 s
        inputs = rows(1)
        gone = weakref.ref(inputs["observation"])
        await ask(batcher, inputs)
        del inputs
        await settle()
        await asyncio.sleep(0.05)
        batcher.close()
        gc.collect()
        return gone()

    assert asyncio.run(main()) is None
