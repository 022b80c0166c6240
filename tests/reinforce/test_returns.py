"""Returns and baselines against their definitions, computed with loops."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgkeras.environments.trajectory import Trajectory
from pgkeras.reinforce import returns
from pgkeras.reinforce.baselines import RunningMean, ValueBaseline, from_batch
from pgkeras.reinforce.estimator import advantages
from tests.reinforce.known import Known


@st.composite
def batches(draw: st.DrawFn, least_episodes: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Generates rewards ``[T, B]``, 0 in padding, and lengths with maximum T."""
    lengths = np.array(draw(st.lists(st.integers(1, 12), min_size=least_episodes, max_size=6)))
    seed = draw(st.integers(0, 2**32 - 1))
    scale = draw(st.sampled_from([1e-3, 1.0, 1e4]))
    rewards = np.random.default_rng(seed).normal(0.3, 1, (lengths.max(), len(lengths))) * scale
    return np.where(mask_of(lengths), rewards, 0.0), lengths


gammas = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1))


def mask_of(lengths: np.ndarray) -> np.ndarray:
    return np.arange(lengths.max())[:, np.newaxis] < lengths


def returns_by_definition(rewards: np.ndarray, gamma: float) -> np.ndarray:
    """Computes ``R_t = sum_{k >= t} gamma**(k - t) r_k`` from the definition, in O(T^2)."""
    steps, episodes = rewards.shape
    result = np.zeros((steps, episodes))
    for b in range(episodes):
        for t in range(steps):
            result[t, b] = sum(gamma ** (k - t) * rewards[k, b] for k in range(t, steps))
    return result


@given(batches(), gammas)
def test_discounted_returns_are_the_discounted_sums(batch: tuple[np.ndarray, np.ndarray], gamma: float) -> None:
    rewards, lengths = batch
    got = returns.discounted_returns(rewards, gamma)
    np.testing.assert_allclose(got, returns_by_definition(rewards, gamma), rtol=1e-10, atol=1e-9)
    assert (got[~mask_of(lengths)] == 0).all()


@given(batches(), gammas)
def test_an_episode_has_the_same_returns_alone_and_in_a_batch(
    batch: tuple[np.ndarray, np.ndarray], gamma: float
) -> None:
    rewards, lengths = batch
    together = returns.discounted_returns(rewards, gamma)
    for b, length in enumerate(lengths):
        alone = returns.discounted_returns(rewards[:length, b : b + 1], gamma)
        np.testing.assert_array_equal(together[:length, b], alone[:, 0])


def test_discounted_returns_by_hand() -> None:
    # Episode 0: rewards 1, 2, 4 with gamma 1/2: R_2 = 4; R_1 = 2 + 4/2 = 4; R_0 = 1 + 4/2 = 3.
    # Episode 1: rewards -8, 6, then over: R_1 = 6; R_0 = -8 + 6/2 = -5.
    rewards = np.array([[1.0, -8.0], [2.0, 6.0], [4.0, 0.0]])
    np.testing.assert_array_equal(returns.discounted_returns(rewards, 0.5), [[3.0, -5.0], [4.0, 6.0], [4.0, 0.0]])
    np.testing.assert_array_equal(returns.discounted_returns(rewards, 0.0), rewards)
    # With gamma 1, returns are sums from the end: 4, 6, 7 and 6, -2.
    np.testing.assert_array_equal(returns.discounted_returns(rewards, 1.0), [[7.0, -2.0], [6.0, 6.0], [4.0, 0.0]])


@given(batches(), gammas, st.integers(0, 2**32 - 1))
def test_returns_stop_at_ends(batch: tuple[np.ndarray, np.ndarray], gamma: float, seed: int) -> None:
    rewards, lengths = batch
    ends = np.random.default_rng(seed).random(rewards.shape) < 0.3
    got = returns.discounted_returns(rewards, gamma, ends)
    for b, length in enumerate(lengths):
        after = 0.0
        for t in reversed(range(length)):
            after = rewards[t, b] + (0.0 if ends[t, b] else gamma * after)
            assert got[t, b] == pytest.approx(after, rel=1e-10, abs=1e-9)


def test_reset_returns_stop_at_nonzero_rewards() -> None:
    # Points after steps 1 and 2, then one step without any, after which the episode is truncated; by hand, gamma 1/2.
    trajectory = Trajectory(
        observations=np.zeros((4, 1, 1), np.float32),
        samples=np.zeros((4, 1), np.int64),
        rewards=np.array([[0.0], [1.0], [-1.0], [0.0]]),
        lengths=np.array([4]),
        terminated=np.array([False]),
        final_observations=np.zeros((1, 1), np.float32),
    )
    plain = advantages(trajectory, 0.5, reset_returns=True)
    np.testing.assert_array_equal(plain.returns[:, 0], [0.5, 1.0, -1.0, 0.0])
    eight = ValueBaseline(Known(lambda observations: np.full(len(observations), 8.0)))
    going_on = advantages(trajectory, 0.5, eight, reset_returns=True)
    np.testing.assert_array_equal(going_on.returns[:, 0], [0.5, 1.0, -1.0, 4.0])
    # An episode that is truncated at a point is not bootstrapped.
    at_point = trajectory._replace(rewards=np.array([[0.0], [1.0], [0.0], [-1.0]]))
    np.testing.assert_array_equal(
        advantages(at_point, 0.5, eight, reset_returns=True).returns[:, 0], [0.5, 1.0, -0.5, -1.0]
    )


@given(batches(), gammas)
def test_episode_returns_repeat_the_return_of_the_first_step(
    batch: tuple[np.ndarray, np.ndarray], gamma: float
) -> None:
    rewards, lengths = batch
    mask = mask_of(lengths)
    got = returns.episode_returns(returns.discounted_returns(rewards, gamma), mask)
    for b, length in enumerate(lengths):
        whole = sum(gamma**k * rewards[k, b] for k in range(length))
        np.testing.assert_allclose(got[:length, b], whole, rtol=1e-10, atol=1e-9)
    assert (got[~mask] == 0).all()


def test_discounts_by_hand() -> None:
    np.testing.assert_array_equal(returns.discounts(4, 0.5), [[1.0], [0.5], [0.25], [0.125]])
    np.testing.assert_array_equal(returns.discounts(3, 0.0), [[1.0], [0.0], [0.0]])
    np.testing.assert_array_equal(returns.discounts(3, 1.0), np.ones((3, 1)))


def test_the_running_mean_by_hand() -> None:
    # Real steps return 1, 2 and 6, so 3 on average; the padded 100 does not count. Then 4 + 0.25 * (3 - 4) = 3.75.
    values, mask = np.array([[1.0, 2.0], [6.0, 100.0]]), np.array([[True, True], [True, False]])
    assert returns.running_mean(None, values, mask, 0.25) == 3.0
    assert returns.running_mean(4.0, values, mask, 0.25) == 3.75
    assert returns.running_mean(4.0, values, mask, 1.0) == 3.0


def test_rewards_of_another_rank_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"\[T, B\].*\(3,\)"):
        returns.discounted_returns(np.ones(3), 0.9)


Compute = Callable[[np.ndarray, np.ndarray], np.ndarray]


def time_baseline_by_loops(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    result = np.zeros(values.shape)
    for t in range(len(values)):
        alive = [values[t, b] for b in range(values.shape[1]) if mask[t, b]]
        for b in range(values.shape[1]):
            if mask[t, b]:
                result[t, b] = sum(alive) / len(alive)
    return result


def leave_one_out_by_loops(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    result = np.zeros(values.shape)
    for b in range(values.shape[1]):
        baseline = 0.0
        for t in range(len(values)):
            others = [values[t, j] for j in range(values.shape[1]) if j != b and mask[t, j]]
            if others:
                baseline = sum(others) / len(others)
            if mask[t, b]:
                result[t, b] = baseline
    return result


@pytest.mark.parametrize(
    ("baseline", "by_loops"),
    [
        (returns.time_baseline, time_baseline_by_loops),
        (returns.leave_one_out_baseline, leave_one_out_by_loops),
    ],
)
@given(batch=batches())
def test_baselines_match_their_definitions(
    baseline: Compute, by_loops: Compute, batch: tuple[np.ndarray, np.ndarray]
) -> None:
    values, lengths = batch
    mask = mask_of(lengths)
    # Subtracting an episode's own return from a sum loses precision relative to the largest return.
    atol = 1e-12 * max(1.0, np.abs(values).max())
    np.testing.assert_allclose(baseline(values, mask), by_loops(values, mask), rtol=1e-9, atol=atol)


def test_leave_one_out_by_hand() -> None:
    # Three episodes of 3, 2 and 1 steps. At t=0 the others' means are (2+9)/2, (4+9)/2, (4+2)/2. At t=1 only episodes
    # 0 and 1 live: each has the other's return. At t=2 episode 0 is alone and keeps its baseline of t=1, which is 8.
    values = np.array([[4.0, 2.0, 9.0], [6.0, 8.0, 0.0], [7.0, 0.0, 0.0]])
    mask = mask_of(np.array([3, 2, 1]))
    expected = [[5.5, 6.5, 3.0], [8.0, 6.0, 0.0], [8.0, 0.0, 0.0]]
    np.testing.assert_allclose(returns.leave_one_out_baseline(values, mask), expected)


@given(batches(), gammas, st.integers(0, 2**32 - 1), st.data())
def test_leave_one_out_does_not_depend_on_the_episodes_own_rewards(
    batch: tuple[np.ndarray, np.ndarray], gamma: float, seed: int, data: st.DataObject
) -> None:
    rewards, lengths = batch
    mask = mask_of(lengths)
    own = data.draw(st.integers(0, len(lengths) - 1))
    changed = rewards.copy()
    changed[: lengths[own], own] += np.random.default_rng(seed).normal(0, np.abs(rewards).max() + 1, lengths[own])
    before = returns.leave_one_out_baseline(returns.discounted_returns(rewards, gamma), mask)[:, own]
    after = returns.leave_one_out_baseline(returns.discounted_returns(changed, gamma), mask)[:, own]
    np.testing.assert_allclose(after, before, rtol=1e-9, atol=1e-11 * (1 + np.abs(changed).sum()))


@given(batches(least_episodes=2))
def test_time_baseline_shrinks_leave_one_out_advantages(batch: tuple[np.ndarray, np.ndarray]) -> None:
    # R - mean = (n - 1)/n (R - mean of the others), where n episodes reach the step.
    values, lengths = batch
    mask = mask_of(lengths)
    n = mask.sum(axis=1, keepdims=True)
    several = mask & (n > 1)
    time = (values - returns.time_baseline(values, mask))[several]
    others = (values - returns.leave_one_out_baseline(values, mask))[several]
    factor = np.broadcast_to((n - 1) / np.maximum(n, 1), mask.shape)[several]
    np.testing.assert_allclose(time, factor * others, rtol=1e-7, atol=1e-10 * max(1.0, np.abs(values).max()))


@given(batches())
def test_rescaled_advantages_have_root_mean_square_1_over_real_steps(batch: tuple[np.ndarray, np.ndarray]) -> None:
    values, lengths = batch
    mask = mask_of(lengths)
    scaled = returns.rescale(values, values, mask)
    assert math.sqrt(np.mean(scaled[mask] ** 2)) == pytest.approx(1.0)
    # Only the scale changes.
    np.testing.assert_allclose(scaled * values[mask][0], values * scaled[mask][0], rtol=1e-9)
    np.testing.assert_allclose(returns.rescale(1000 * values, 1000 * values, mask), scaled, rtol=1e-9)


def test_rescaling_by_hand_ignores_padding() -> None:
    # Real steps 3, -4, 0 and 5: mean square (9 + 16 + 0 + 25)/4 = 12.5. Two padded steps would make it 50/6.
    values = np.array([[3.0, -4.0], [0.0, 0.0], [5.0, 0.0]])
    mask = mask_of(np.array([3, 1]))
    np.testing.assert_allclose(returns.rescale(values, values, mask), values / math.sqrt(12.5))


def test_rescaling_preserves_nan() -> None:
    values = np.array([[3.0, np.nan], [1.0, 2.0]])
    mask = np.ones((2, 2), np.bool_)
    assert np.isnan(returns.rescale(values, np.ones((2, 2)), mask)).any()
    assert np.isnan(returns.rescale(values, values, mask)).any()


def test_explained_variance_by_hand() -> None:
    # Returns 1, 2, 3, 6 have mean 3 and variance (4 + 1 + 0 + 9)/4 = 3.5. The residuals from the baseline 1, 1, 3, 5
    # are 0, 1, 0, 1 with variance 1/4: 1 - 0.25/3.5 = 13/14. The padded row must not count.
    values = np.array([[1.0, 3.0], [2.0, 6.0], [0.0, 0.0]])
    baseline = np.array([[1.0, 3.0], [1.0, 5.0], [0.0, 0.0]])
    mask = np.array([[True, True], [True, True], [False, False]])
    assert returns.explained_variance(values, baseline, mask) == pytest.approx(13 / 14)
    assert returns.explained_variance(values, values, mask) == 1.0
    assert returns.explained_variance(values, np.full_like(values, 7.0), mask) == pytest.approx(0.0)


def episodes_of(reward: float, episodes: int, steps: int) -> Trajectory:
    return Trajectory(
        observations=np.zeros((steps, episodes, 1), np.float32),
        samples=np.zeros((steps, episodes), np.int64),
        rewards=np.full((steps, episodes), reward),
        lengths=np.full(episodes, steps),
        terminated=np.ones(episodes, np.bool_),
        final_observations=np.zeros((episodes, 1), np.float32),
    )


@pytest.mark.parametrize("baseline", ["time", "leave-one-out"])
@pytest.mark.parametrize("reward", [0.0, 0.1, 1.0, -1e-7, 1e9])
@pytest.mark.parametrize("episodes", [3, 24, 1000])
def test_equal_episodes_have_zero_advantages(baseline: str, reward: float, episodes: int) -> None:
    # The mean of equal numbers differs from them by rounding errors, which rescaling must not amplify.
    result = advantages(episodes_of(reward, episodes, 7), gamma=0.995, baseline=from_batch(baseline), rescale=True)
    np.testing.assert_array_equal(result.values, 0.0)


@pytest.mark.parametrize("baseline", ["time", "leave-one-out"])
def test_explained_variance_of_constant_returns_is_nan(baseline: str) -> None:
    # One step, and the same return of 0.1 in every episode: the variance is 0 up to rounding.
    result = advantages(episodes_of(0.1, 6, 1), gamma=0.9, baseline=from_batch(baseline))
    assert math.isnan(result.explained_variance)


def test_advantages_are_returns_minus_the_baseline() -> None:
    trajectory = episodes_of(1.0, 2, 2)._replace(rewards=np.array([[1.0, 3.0], [2.0, 0.0]]), lengths=np.array([2, 1]))
    # gamma 1/2: returns are (2, 3) and (2, padding). Leave-one-out: 3 and 2 at t=0. At t=1 there is no other episode,
    # so 3 is kept.
    plain = advantages(trajectory, gamma=0.5)
    np.testing.assert_allclose(plain.values, [[2.0, 3.0], [2.0, 0.0]])
    assert math.isnan(plain.explained_variance)
    np.testing.assert_allclose(
        advantages(trajectory, 0.5, from_batch("leave-one-out")).values, [[-1.0, 1.0], [-1.0, 0.0]]
    )
    # Advantages are multiplied by powers of gamma after the running mean of 1 was subtracted from real steps.
    weighted = advantages(trajectory, 0.5, from_batch("leave-one-out"), discount_gradient=True)
    np.testing.assert_allclose(weighted.values, [[-1.0, 1.0], [-0.5, 0.0]])
    mean = RunningMean(1.0)
    mean.fit(trajectory, np.ones((2, 2)), epoch=0)
    running = advantages(trajectory, 0.5, mean)
    np.testing.assert_allclose(running.values, [[1.0, 2.0], [1.0, 0.0]])
    whole = advantages(trajectory, 0.5, from_batch("leave-one-out"), returns="episode")
    np.testing.assert_allclose(whole.values, [[-1.0, 1.0], [-1.0, 0.0]])
    np.testing.assert_allclose(whole.returns, [[2.0, 3.0], [2.0, 0.0]])
    # Time: the mean 2.5 at t=0, and the only return at t=1.
    np.testing.assert_allclose(advantages(trajectory, 0.5, from_batch("time")).values, [[-0.5, 0.5], [0.0, 0.0]])
