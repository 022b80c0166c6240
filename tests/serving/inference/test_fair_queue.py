"""FairQueue: the order of callers, compared with a plain round robin."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from pgkeras_serving.inference.fair_queue import FairQueue


def test_one_callers_backlog_does_not_delay_the_others():
    turns = FairQueue()
    for i in range(100):
        turns.put(f"flood {i}", 10, "flood")
    turns.put("a", 1, "one")
    turns.put("b", 10, "two")
    turns.put("c", 1, "one")
    assert turns.take(10) == ["flood 0"]
    assert turns.take(11) == ["a", "b"]
    assert turns.take(11) == ["flood 1", "c"]
    assert turns.take(30) == ["flood 2", "flood 3", "flood 4"]
    assert len(turns) == 95
    assert turns.rows == 950


def test_round_robin_continues_across_batches():
    turns = FairQueue()
    for i in range(4):
        for caller in "abc":
            turns.put(f"{caller}{i}", 5, caller)
    served = [turns.take(9) for _ in range(12)]
    assert [key for (key,) in served] == [f"{caller}{i}" for i in range(4) for caller in "abc"]


@pytest.mark.parametrize("seed", range(5))
def test_each_request_is_served_once_in_its_callers_order(seed):
    generator, turns = np.random.default_rng(seed), FairQueue()
    backlogs, removed, served, number = {}, set(), [], 0
    for _ in range(400):
        action = generator.integers(4)
        if action < 2:
            caller, rows = int(generator.integers(5)), int(generator.integers(1, 9))
            turns.put(number, rows, caller)
            backlogs.setdefault(caller, deque()).append((number, rows))
            number += 1
        elif action == 2:
            room = 16
            for key in turns.take(16):
                (backlog,) = [backlog for backlog in backlogs.values() if backlog and backlog[0][0] == key]
                room -= backlog.popleft()[1]
                served.append(key)
            assert room >= 0
        elif number:
            key = int(generator.integers(number))
            waits = any(key == waiting for backlog in backlogs.values() for waiting, _ in backlog)
            assert turns.remove(key) == waits
            if waits:
                removed.add(key)
                backlogs = {caller: deque(r for r in backlog if r[0] != key) for caller, backlog in backlogs.items()}
        assert turns.rows == sum(rows for backlog in backlogs.values() for _, rows in backlog)
        assert all((caller in turns) == bool(backlog) for caller, backlog in backlogs.items())
    while len(turns):
        served += turns.take(16)
    assert sorted([*served, *removed]) == list(range(number))
