"""Bias of the estimators: the mean of thousands of estimates against the exact gradient of a small problem.

The problem has three states, two actions, random transitions and at most five steps. The policy is a table with one
free preference per state, so the gradient has three components. Exact values are computed by enumeration of all
trajectories, and exact gradients by central differences. Neither uses returns, baselines or log-probabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pgkeras.environments.trajectory import Trajectory
from pgkeras.reinforce.baselines import NO_BASELINE, NoBaseline, RunningMean, ValueBaseline, from_batch
from pgkeras.reinforce.estimator import advantages
from tests.reinforce.known import Known

GAMMA = 0.6
HORIZON = 5
LIMIT, LIMITED_GAMMA = 2, 0.9  # for the tests of truncation
EPISODES = 4  # per estimate
ESTIMATES = 3000
START = np.array([0.6, 0.4, 0.0])
# P(next | state, action); the last column is the terminal state.
MOVES = np.array(
    [
        [[0.1, 0.6, 0.2, 0.1], [0.5, 0.1, 0.3, 0.1]],
        [[0.2, 0.2, 0.5, 0.1], [0.3, 0.3, 0.0, 0.4]],
        [[0.7, 0.1, 0.1, 0.1], [0.1, 0.5, 0.3, 0.1]],
    ]
)
REWARDS = np.array([[1.0, -0.5], [0.0, 2.0], [3.0, 0.5]])  # of a state and action
PREFERENCES = np.array([0.4, -0.3, 0.2])  # of action 1 over action 0, in each state

CHI_SQUARED_3 = 16.3  # 0.999 quantile with three degrees of freedom


def probabilities(preferences: np.ndarray) -> np.ndarray:
    """P(action | state), ``[3, 2]``."""
    one = 1 / (1 + np.exp(-preferences))
    return np.stack([1 - one, one], axis=1)


Score = Callable[[list[tuple[int, int]], list[float]], float]


def expected(preferences: np.ndarray, score: Score, horizon: int = HORIZON) -> float:
    """Returns the expectation, over all trajectories, of a score of (state, action) pairs and rewards."""
    policy = probabilities(preferences)

    def visit(state: int, weight: float, pairs: list[tuple[int, int]], rewards: list[float]) -> float:
        if state == 3 or len(pairs) == horizon:
            return weight * score(pairs, rewards)
        total = 0.0
        for action in range(2):
            for after in range(4):
                chance = policy[state, action] * MOVES[state, action, after]
                if chance:
                    seen = [*pairs, (state, action)], [*rewards, REWARDS[state, action]]
                    total += visit(after, weight * chance, *seen)
        return total

    return sum(visit(state, START[state], [], []) for state in range(3) if START[state])


def differences(score: Score) -> np.ndarray:
    """Returns the gradient of an expected score, by central differences."""
    step = 1e-5
    gradient = np.zeros(3)
    for i in range(3):
        moved = [expected(PREFERENCES + sign * step * np.eye(3)[i], score) for sign in (1, -1)]
        gradient[i] = (moved[0] - moved[1]) / (2 * step)
    return gradient


def values_without_limit(gamma: float) -> np.ndarray:
    """Returns V of each state and of the terminal state without a step limit, from the Bellman equations."""
    policy = probabilities(PREFERENCES)
    moves = np.einsum("sa,san->sn", policy, MOVES)[:, :3]
    return np.append(np.linalg.solve(np.eye(3) - gamma * moves, (policy * REWARDS).sum(axis=1)), 0.0)


@pytest.fixture(scope="module")
def exact() -> dict[str, np.ndarray]:
    """Returns the exact gradients, by name."""
    policy = probabilities(PREFERENCES)
    action_values = REWARDS + LIMITED_GAMMA * MOVES @ values_without_limit(LIMITED_GAMMA)

    def unlimited(i: int) -> Score:
        # sum_t gamma^t Q(s_t, a_t) d ln P(a_t | s_t) / d preference_i, with Q without a step limit.
        return lambda pairs, _: sum(
            LIMITED_GAMMA**t * action_values[s, a] * (a - policy[s, 1]) for t, (s, a) in enumerate(pairs) if s == i
        )

    return {
        "discounted": differences(lambda _, rewards: sum(GAMMA**t * reward for t, reward in enumerate(rewards))),
        "undiscounted": differences(lambda _, rewards: sum(rewards)),
        "unlimited": np.array([expected(PREFERENCES, unlimited(i), LIMIT) for i in range(3)]),
    }


@pytest.fixture(scope="module")
def episodes() -> Trajectory:
    """Simulates all episodes in parallel."""
    generator = np.random.default_rng(7)
    count = EPISODES * ESTIMATES
    policy = probabilities(PREFERENCES)
    states = np.full((HORIZON + 1, count), 3)
    actions = np.zeros((HORIZON, count), np.int64)
    states[0] = generator.choice(3, count, p=START)
    for t in range(HORIZON):
        live = states[t] < 3
        now = states[t][live]
        actions[t, live] = generator.random(len(now)) < policy[now, 1]
        edges = MOVES[now, actions[t, live]].cumsum(axis=1)
        states[t + 1, live] = (generator.random((len(now), 1)) > edges).sum(axis=1)
    mask = states[:-1] < 3
    lengths = mask.sum(axis=0)
    live_states = np.minimum(states[:-1], 2)
    final = states[lengths, np.arange(count)]
    return Trajectory(
        observations=states[:-1, :, np.newaxis].astype(np.float32),
        samples=actions,
        rewards=np.where(mask, REWARDS[live_states, actions], 0.0),
        lengths=lengths,
        terminated=final == 3,
        final_observations=final[:, np.newaxis].astype(np.float32),
    )


@pytest.fixture(scope="module")
def limited(episodes: Trajectory) -> Trajectory:
    """Returns the episodes truncated after two steps."""
    over = episodes.lengths <= LIMIT
    return Trajectory(
        observations=episodes.observations[:LIMIT],
        samples=episodes.samples[:LIMIT],
        rewards=episodes.rewards[:LIMIT],
        lengths=np.minimum(episodes.lengths, LIMIT),
        terminated=episodes.terminated & over,
        final_observations=np.where(over[:, np.newaxis], episodes.final_observations, episodes.observations[LIMIT]),
    )


def two_games(episodes: Trajectory) -> Trajectory:
    """Joins pairs of episodes as two games. Each game has one reward at its end: its sum of rewards plus 7."""
    half = episodes.samples.shape[1] // 2
    own, longest = np.arange(half), 2 * HORIZON
    lengths = episodes.lengths[:half], episodes.lengths[half:]
    together = Trajectory(
        observations=np.full((longest, half, 1), 3, np.float32),
        samples=np.zeros((longest, half), np.int64),
        rewards=np.zeros((longest, half)),
        lengths=lengths[0] + lengths[1],
        terminated=np.ones(half, np.bool_),
        final_observations=episodes.final_observations[:half],
    )
    for k, begin in enumerate((np.zeros_like(lengths[0]), lengths[0])):
        columns = own + k * half
        for t in range(HORIZON):
            live = t < lengths[k]
            there = begin[live] + t, own[live]
            together.observations[there] = episodes.observations[t, columns[live]]
            together.samples[there] = episodes.samples[t, columns[live]]
        together.rewards[begin + lengths[k] - 1, own] = 7 + episodes.rewards[:, columns].sum(axis=0)
    return together


def estimates(
    episodes: Trajectory,
    gamma: float,
    baseline: NoBaseline = NO_BASELINE,
    count: int = ESTIMATES,
    **options: Any,
) -> np.ndarray:
    """Returns one estimate of the gradient per four episodes, ``[count, 3]``."""
    ones = probabilities(PREFERENCES)[:, 1]
    result = np.zeros((count, 3))
    for k in range(count):
        own = slice(k * EPISODES, (k + 1) * EPISODES)
        longest = episodes.lengths[own].max()
        batch = Trajectory(
            observations=episodes.observations[:longest, own],
            samples=episodes.samples[:longest, own],
            rewards=episodes.rewards[:longest, own],
            lengths=episodes.lengths[own],
            terminated=episodes.terminated[own],
            final_observations=episodes.final_observations[own],
        )
        weights = advantages(batch, gamma, baseline, **options)
        baseline.fit(batch, weights.returns, epoch=k)
        states = batch.observations[..., 0].astype(np.int64)
        for i in range(3):
            here = batch.mask & (states == i)
            result[k, i] = ((batch.samples - ones[i]) * weights.values)[here].sum() / EPISODES
    return result


def distance(found: np.ndarray, gradient: np.ndarray) -> float:
    """Computes Hotelling's statistic of the mean estimate, chi-squared with three degrees of freedom if unbiased."""
    difference = found.mean(axis=0) - gradient
    return float(difference @ np.linalg.solve(np.cov(found.T) / len(found), difference))


def lookup(table: np.ndarray) -> NoBaseline:
    """Returns the baseline of a fixed value function of the four states."""
    return ValueBaseline(Known(lambda observations: table[observations[:, 0].astype(np.int64)]))


POOR_VALUE = lookup(np.array([3.0, -1.0, 0.5, 0.0]))


@pytest.mark.parametrize(
    "baseline",
    [lambda: NO_BASELINE, lambda: RunningMean(0.1), lambda: from_batch("leave-one-out")],
    ids=["none", "running-mean", "leave-one-out"],
)
@pytest.mark.parametrize(
    ("options", "gamma", "objective"),
    [
        ({"discount_gradient": True}, GAMMA, "discounted"),
        ({"returns": "episode"}, GAMMA, "discounted"),
        ({}, 1.0, "undiscounted"),
        ({"returns": "episode"}, 1.0, "undiscounted"),
    ],
)
def test_unbiased(
    episodes: Trajectory,
    exact: dict[str, np.ndarray],
    baseline: Callable[[], NoBaseline],
    options: dict[str, Any],
    gamma: float,
    objective: str,
) -> None:
    assert distance(estimates(episodes, gamma, baseline(), **options), exact[objective]) < CHI_SQUARED_3


@pytest.mark.parametrize("baseline", [lambda: NO_BASELINE, lambda: RunningMean(0.1)], ids=["none", "running-mean"])
def test_reset_returns_are_unbiased_if_points_are_independent(
    episodes: Trajectory, exact: dict[str, np.ndarray], baseline: Callable[[], NoBaseline]
) -> None:
    # The reward of the first game is independent of the second game.
    found, plain = (
        estimates(two_games(episodes), 1.0, baseline(), count=ESTIMATES // 2, reset_returns=reset)
        for reset in (True, False)
    )
    assert distance(found, 2 * exact["undiscounted"]) < CHI_SQUARED_3
    assert found.var(axis=0).sum() < plain.var(axis=0).sum()


def test_any_state_dependent_baseline_is_unbiased(episodes: Trajectory, exact: dict[str, np.ndarray]) -> None:
    # The value function serves only as a baseline, because no episode is truncated.
    whole = episodes._replace(terminated=np.ones_like(episodes.terminated))
    poor = estimates(whole, GAMMA, POOR_VALUE, discount_gradient=True)
    assert distance(poor, exact["discounted"]) < CHI_SQUARED_3
    good = estimates(whole, GAMMA, lookup(values_without_limit(GAMMA)), discount_gradient=True)
    assert distance(good, exact["discounted"]) < CHI_SQUARED_3
    plain = estimates(whole, GAMMA, discount_gradient=True)
    assert good.var(axis=0).sum() < plain.var(axis=0).sum()  # the baseline reduces the variance


def test_truncated_episodes_are_bootstrapped_with_the_last_state(
    limited: Trajectory, exact: dict[str, np.ndarray]
) -> None:
    found = estimates(limited, LIMITED_GAMMA, lookup(values_without_limit(LIMITED_GAMMA)), discount_gradient=True)
    assert distance(found, exact["unlimited"]) < CHI_SQUARED_3


BIAS_IS_SEEN = 100.0  # far beyond the quantile


@pytest.mark.parametrize(
    "options",
    [
        {},  # without the factor gamma^t
        {"discount_gradient": True, "baseline": from_batch("time")},  # which includes the episode's own return
        {"discount_gradient": True, "rescale": True},
    ],
)
def test_the_test_detects_biased_estimators(
    episodes: Trajectory, exact: dict[str, np.ndarray], options: dict[str, Any]
) -> None:
    assert distance(estimates(episodes, GAMMA, **options), exact["discounted"]) > BIAS_IS_SEEN


@pytest.mark.parametrize(
    "options",
    [
        {},  # truncated episodes are treated as terminal
        {"baseline": from_batch("leave-one-out")},
        {"baseline": POOR_VALUE},  # truncated episodes are bootstrapped with a wrong value
    ],
)
def test_the_test_detects_the_bias_of_truncation(
    limited: Trajectory, exact: dict[str, np.ndarray], options: dict[str, Any]
) -> None:
    found = estimates(limited, LIMITED_GAMMA, discount_gradient=True, **options)
    assert distance(found, exact["unlimited"]) > BIAS_IS_SEEN


def test_the_time_baseline_scales_the_gradient_by_its_own_share(
    episodes: Trajectory, exact: dict[str, np.ndarray]
) -> None:
    # All four episodes reach step 0, so (n - 1)/n = 3/4 of the gradient of episodes with one step is left.
    first = episodes._replace(
        observations=episodes.observations[:1],
        samples=episodes.samples[:1],
        rewards=episodes.rewards[:1],
        lengths=np.ones_like(episodes.lengths),
    )
    shrunk, whole = (estimates(first, 1.0, from_batch(name)) for name in ("time", "leave-one-out"))
    np.testing.assert_allclose(shrunk, 0.75 * whole, atol=1e-12)
