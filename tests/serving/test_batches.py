"""A request that is taken apart."""

from __future__ import annotations

import asyncio
from itertools import permutations

import numpy as np
import pytest
from pgkeras_serving.batches import Divided, Outcome, Request, Waiting

ROWS = np.arange(10.0).reshape(5, 2)


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_parts_are_put_together_in_their_order_whichever_is_done_first(order):
    async def main():
        answer = asyncio.get_running_loop().create_future()
        request = Request(answer, {"noise": ROWS, "observation": 2 * ROWS}, frozenset({"action"}), str)
        divided = Divided(Waiting(request, 0), 2)
        parts = {}
        for left in (5, 3, 1):
            assert divided.rows_left == left
            number, part = divided.next_part()
            assert part.inputs["observation"].tolist() == (2 * part.inputs["noise"]).tolist()
            assert (part.answer, part.needs) == (answer, request.needs)
            parts[number] = part.inputs["noise"]
        assert divided.rows_left == 0
        outcomes = [divided.add(number, Outcome({"action": parts[number]}, number, 10 - number)) for number in order]
        assert outcomes[:2] == [None, None]
        return outcomes[2]

    whole = asyncio.run(main())
    np.testing.assert_array_equal(whole.arrays["action"], ROWS)
    assert (whole.start, whole.end) == (0, 10)
