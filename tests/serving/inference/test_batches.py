"""Requests that are divided into parts."""

from __future__ import annotations

import asyncio
from itertools import permutations

import numpy as np
import pytest
from pgkeras_serving.inference.batches import Joined, Request, split
from pgkeras_serving.telemetry.metrics import Meter

from pgkeras import engines
from pgkeras.bundle import bundle
from pgkeras.client import PolicyClient
from pgkeras.cores import available
from pgkeras.engines import noise
from tests.serving.conftest import running
from tests.serving.inference.test_batcher import SPEC
from tests.serving.telemetry.test_metrics import of, page_of, samples

ROWS = np.arange(10.0).reshape(5, 2)


class Echo:
    """An engine that returns each row."""

    def act(self, inputs, needs):
        assert inputs["observation"].tolist() == (2 * inputs["noise"]).tolist()
        return dict.fromkeys(needs, inputs["noise"])


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_parts_are_joined_in_order_whichever_finishes_first(order):
    async def main():
        answer, meter = asyncio.get_running_loop().create_future(), Meter(SPEC)
        parts = split(Request(answer, {"noise": ROWS, "observation": 2 * ROWS}, frozenset({"action"}), str, 0), 2)
        assert [part.rows for part in parts] == [2, 2, 1]
        for number in order:
            assert not answer.done()
            parts[number].finish(parts[number].run(Echo()), meter)
        return await answer

    np.testing.assert_array_equal(asyncio.run(main())["action"], ROWS)


@pytest.mark.parametrize("failed", range(3))
def test_a_request_fails_with_the_first_of_its_parts_that_does(failed):
    async def main():
        answer, meter = asyncio.get_running_loop().create_future(), Meter(SPEC)
        parts = split(Request(answer, {"noise": ROWS, "observation": 2 * ROWS}, frozenset({"action"}), str, 0), 2)
        for number, part in enumerate(parts):
            part.finish(MemoryError("no room") if number == failed else part.run(Echo()), meter)
        await answer

    with pytest.raises(MemoryError, match="no room"):
        asyncio.run(main())


class Uneven:
    """An engine whose outputs for different numbers of rows cannot be concatenated."""

    def act(self, inputs, needs):
        rows = len(inputs["noise"])
        return dict.fromkeys(needs, np.zeros((rows, rows)))


def test_errors_in_joining_and_splitting_reach_the_requests():
    async def main():
        answers, meter = [asyncio.get_running_loop().create_future() for _ in range(3)], Meter(SPEC)
        parts = split(Request(answers[0], {"noise": ROWS}, frozenset({"action"}), str, 0), 2)
        for part in parts:
            part.finish(part.run(Uneven()), meter)
        of_two_kinds = zip(answers[1:], (ROWS, ROWS[:, :1]), strict=True)
        joined = Joined([Request(answer, {"noise": rows}, frozenset(), str, 0) for answer, rows in of_two_kinds])
        joined.finish(joined.run(Uneven()), meter)
        return [answer.exception() for answer in answers]

    assert [type(error) for error in asyncio.run(main())] == [ValueError] * 3


def test_a_divided_request_returns_the_same_as_its_rows_alone(slow_policy, tmp_path):
    observations = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    with running(slow_policy, tmp_path, "--http-port", "0") as server, PolicyClient(server.target) as client:
        answer = client.act(observations, seed=7)
        parts = of(samples(page_of(server)), "batch_size_count", "1", "slow")
        drawn = noise.draw(noise.seeded(7), client.describe().spec, len(observations))
    engine = engines.load(bundle.open_bundle(slow_policy / "slow" / "1"), "litert")
    rows = [engine.act({"observation": observations[i : i + 1], "noise": drawn[i : i + 1]}) for i in range(300)]
    np.testing.assert_array_equal(answer.action, np.concatenate([row["action"] for row in rows]))
    expected = np.concatenate([row["probabilities"] for row in rows])
    np.testing.assert_allclose(answer.distribution["probabilities"], expected, atol=1e-5)
    assert parts >= 2 or available() == 1  # on one core, one run padded to 512 rows may be as fast
