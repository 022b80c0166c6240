"""Episodes: which rewards belong to which episode, for every autoreset mode of the simulator."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pgkeras_serving.messages.steps import Transition
from pgkeras_serving.sessions.episodes import Episodes
from pgkeras_serving.telemetry.episodes import EpisodeLog


def play(messages, rows):
    """Feeds (reward, ended, start) of every environment; returns the recorded episodes."""
    recorded = []
    episodes = Episodes(rows, lambda *episode: recorded.append(episode))
    for message in messages:
        if message is None:
            episodes.advance(None, None)
        else:
            reward, ended, start = message
            ends = np.array(ended, np.bool_) if np.any(ended) else None  # None: no episode ended
            transition = Transition(np.array(reward, np.float32), ends, np.zeros(rows, np.bool_))
            episodes.advance(transition, None if start is None else np.array(start, np.bool_))
    return recorded


def test_next_step_autoreset_needs_no_flag():
    messages = [None, ([1, 10], [0, 0], None), ([2, 20], [1, 0], None), ([99, 40], [0, 1], None)]
    messages += [([4, 99], [1, 0], None), ([99, 7], [0, 1], None)]
    assert play(messages, 2) == [(3, 2), (70, 3), (4, 1), (7, 1)]


def test_same_step_autoreset_flags_the_starts_of_episodes():
    messages = [None, ([1], [0], [0]), ([2], [1], [1]), ([4], [0], [0]), ([8], [1], [1]), ([16], [1], [1])]
    assert play(messages, 1) == [(3, 2), (12, 2), (16, 1)]


def test_an_episode_that_is_restarted_before_its_end_is_not_counted():
    assert play([None, ([5], [0], None), ([6], [0], [1]), ([1], [1], None)], 1) == [(1, 1)]


@pytest.mark.parametrize("still_over", [0, 1])
def test_a_simulator_may_wait_before_the_next_episode(still_over):
    waiting = ([9], [still_over], [0])
    assert play([None, ([1], [1], [0]), waiting, waiting, ([9], [0], [1]), ([2], [1], [0])], 1) == [(1, 1), (2, 1)]


@pytest.mark.parametrize(("rate", "steps"), [(0.2, 300), (0.002, 15_000)])
@pytest.mark.parametrize("same_step", [True, False])
def test_random_episodes_of_many_environments(same_step, rate, steps):
    generator = np.random.default_rng(0)
    rows = 5
    expected, sums, lengths = [], np.zeros(rows), np.zeros(rows, int)
    over, messages = np.zeros(rows, bool), [None]
    for _ in range(steps):
        reward = generator.integers(-5, 6, rows)
        ended = (generator.random(rows) < rate) & ~over
        for row in range(rows):
            if not over[row]:
                sums[row] += reward[row]
                lengths[row] += 1
            if ended[row]:
                expected.append((sums[row], lengths[row]))
                sums[row] = lengths[row] = 0
        messages.append((reward, ended, ended if same_step else None))
        over = np.zeros(rows, bool) if same_step else ended
    assert len(expected) > 100
    assert play(messages, rows) == expected


def test_the_log_keeps_the_last_100_episodes():
    log = EpisodeLog()
    assert log.summary().count == 0
    assert math.isnan(log.summary().mean_return)
    for i in range(250):
        log.record(float(i), i)
    found = log.summary()
    assert (found.count, found.mean_return, found.mean_length) == (250, np.mean(range(150, 250)), 199.5)
    assert log.last_returns() == list(range(150, 250))
