"""The learned baseline, the normalization of observations, and truncation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgkeras.environments.trajectory import Trajectory
from pgkeras.policy import moments as moments_
from pgkeras.policy.moments import Moments
from pgkeras.policy.networks import ObservationNormalization
from pgkeras.reinforce import estimator, returns
from pgkeras.reinforce.baselines import ValueBaseline
from pgkeras.reinforce.learner import Learner
from pgkeras.reinforce.value import ValueFunction
from pgkeras.settings.config import Config
from pgkeras.settings.groups import ValueSettings
from pgkeras.spaces import Box, Discrete
from pgkeras.spaces.layout import Layout
from tests.reinforce.known import Known

SPACE = Box(np.full(3, -np.inf), np.full(3, np.inf), np.dtype(np.float32))


def trajectory(lengths: list[int], terminated: list[bool], seed: int = 0) -> Trajectory:
    generator = np.random.default_rng(seed)
    longest, episodes = max(lengths), len(lengths)
    mask = np.arange(longest)[:, np.newaxis] < lengths
    return Trajectory(
        observations=generator.normal(2.0, 3.0, (longest, episodes, 3)).astype(np.float32),
        samples=generator.integers(2, size=(longest, episodes)),
        rewards=np.where(mask, generator.normal(size=(longest, episodes)), 0.0),
        lengths=np.array(lengths),
        terminated=np.array(terminated),
        final_observations=generator.normal(size=(episodes, 3)).astype(np.float32),
    )


@settings(max_examples=50)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(0, 2**32 - 1), st.floats(-1e6, 1e6))
def test_moments_of_batches_equal_those_of_all_rows(sizes: list[int], seed: int, offset: float) -> None:
    batches = [np.random.default_rng([seed, i]).normal(offset, 2.0, (n, 2)) for i, n in enumerate(sizes)]
    moments = Moments.zeros((2,))
    for batch in batches:
        moments.update(batch)
    rows = np.concatenate(batches)
    np.testing.assert_allclose(moments.mean, rows.mean(axis=0), rtol=1e-12, atol=1e-12)
    if len(rows) > 1:
        np.testing.assert_allclose(moments.std, rows.std(axis=0), rtol=1e-6)


def test_constant_elements_have_standard_deviation_1() -> None:
    moments = Moments.zeros((1,))
    moments.update(np.full((5, 1), 3.0))
    assert moments.std.tolist() == [1.0]


def test_truncated_episodes_are_bootstrapped_with_the_last_observation() -> None:
    # Two steps of reward 1, gamma 0.5, V(final) = 8: R_1 = 1 + 0.5 * 8 = 5 and R_0 = 1 + 0.5 * 5 = 3.5 if truncated;
    # R_1 = 1 and R_0 = 1.5 if terminated.
    rewards, lengths = np.ones((2, 2)), np.array([2, 2])
    longer = returns.bootstrapped(rewards, lengths, np.array([True, False]), 0.5, np.array([8.0, 8.0]))
    np.testing.assert_allclose(returns.discounted_returns(longer, 0.5), [[3.5, 1.5], [5.0, 1.0]])
    assert rewards.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_advantages_subtract_the_value_of_each_observation() -> None:
    episodes = trajectory([4, 2], [True, False])

    got = estimator.advantages(episodes, 0.9, ValueBaseline(Known(lambda observations: observations.sum(axis=-1))))
    for b, length in enumerate(episodes.lengths):
        following = 0.0 if episodes.terminated[b] else float(episodes.final_observations[b].sum())
        for t in reversed(range(length)):
            following = episodes.rewards[t, b] + 0.9 * following
            assert got.returns[t, b] == pytest.approx(following)
            assert got.values[t, b] == pytest.approx(following - episodes.observations[t, b].sum(), rel=1e-5)


def test_value_function_fits_a_linear_function_and_predicts_0_before() -> None:
    generator = np.random.default_rng(0)
    made = ValueSettings(hidden=(32,), value_learning_rate=0.01, value_passes=20, value_batch_size=64)
    value = ValueFunction(Layout.of(SPACE), made, None, seed=0)
    observations = generator.normal(size=(1000, 3)).astype(np.float32)
    targets = 100.0 + 50.0 * observations[:, 0].astype(np.float64)
    assert value.predict(observations).tolist() == [0.0] * 1000
    losses = [value.fit(observations, targets, epoch) for epoch in range(10)]
    assert losses[-1] < losses[0] < 1.0  # a constant prediction of the mean has a loss of 1
    assert returns.explained_variance(targets, value.predict(observations), np.ones(1000, bool)) > 0.98


def test_only_the_policy_has_layer_normalization() -> None:
    config = Config(env_id="x", baseline="value", layer_normalization=True)
    learner = Learner(config, SPACE, Discrete(2))
    plain = Learner(replace(config, layer_normalization=False), SPACE, Discrete(2))
    value, plain_value = learner._baseline._value, plain._baseline._value
    assert value is not None
    assert plain_value is not None
    assert len(learner.policy.weights()) == len(plain.policy.weights()) + 4  # a scale and a shift in each of two layers
    assert [v.shape for v in value.variables] == [v.shape for v in plain_value.variables]


def test_normalization_uses_statistics_of_earlier_episodes_only() -> None:
    config = Config(env_id="x", baseline="value", normalize_observations=True, value_passes=1, value_batch_size=4)
    learner = Learner(config, SPACE, Discrete(2))
    normalization = learner.policy.normalization
    assert isinstance(normalization, ObservationNormalization)
    first, second = trajectory([5, 3], [True, True], 1), trajectory([4, 4], [True, False], 2)
    probe = np.ones((1, 3), np.float32)
    before = normalization(probe).numpy()
    np.testing.assert_allclose(before, probe)  # the identity before the first update
    learner.learn(first, 0, 0.0)
    rows = first.observations[first.mask].astype(np.float64)
    np.testing.assert_allclose(normalization(probe), (probe - rows.mean(0)) / rows.std(0), rtol=1e-4)
    learner.learn(second, 1, 0.5)
    rows = np.concatenate([rows, second.observations[second.mask]])
    np.testing.assert_allclose(normalization(probe), (probe - rows.mean(0)) / rows.std(0), rtol=1e-4)


def test_normalized_observations_are_clipped() -> None:
    normalization = ObservationNormalization()
    normalization.build((None, 1))
    np.testing.assert_allclose(normalization(np.array([[1e9], [-1e9]], np.float32)), [[10.0], [-10.0]])


def test_the_value_function_does_not_affect_the_policy_gradient() -> None:
    config = Config(env_id="x", baseline="value", normalize_observations=True)
    learner = Learner(config, SPACE, Discrete(2))
    before = learner.policy.weights()
    value = learner._baseline._value
    assert value is not None
    value.fit(np.ones((300, 3), np.float32), np.arange(300.0), 0)
    for old, new in zip(before, learner.policy.weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("target_kl", [None, 0.01])
def test_a_state_restores_everything(target_kl: float | None) -> None:
    config = Config(
        env_id="x",
        baseline="value",
        normalize_observations=True,
        value_passes=2,
        value_batch_size=4,
        learning_rate_schedule="linear",
        target_kl=target_kl,
    )
    one, other = (Learner(config, SPACE, Discrete(2)) for _ in range(2))
    batches = [trajectory([5, 3], [True, False], seed) for seed in range(4)]
    for epoch in range(2):
        one.learn(batches[epoch], epoch, epoch / 4)
    other.restore(one.state())
    for epoch in (2, 3):
        lessons = [learner.learn(batches[epoch], epoch, epoch / 4) for learner in (one, other)]
        np.testing.assert_equal(vars(lessons[0]), vars(lessons[1]))
        if target_kl is None:
            assert lessons[0].learning_rate == pytest.approx(config.learning_rate * (1 - epoch / 4))
    for left, right in zip(one.state().values(), other.state().values(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_nonfinite_values_after_a_terminal_state_are_ignored() -> None:
    episodes = trajectory([4, 2, 3], [True, False, True])
    finals = np.where(episodes.terminated[:, np.newaxis], np.nan, episodes.final_observations)
    baseline = ValueBaseline(Known(lambda observations: observations.sum(axis=-1)))
    for name, values in baseline.quantities(episodes._replace(final_observations=finals)):
        assert np.isfinite(values).all(), name
    finals[1, 0] = np.nan
    (wrong, *_) = [n for n, v in baseline.quantities(episodes._replace(final_observations=finals)) if np.isnan(v).any()]
    assert wrong == "final observation"


def test_moments_in_chunks_equal_those_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments_, "_MAX_NUMBERS", 6)
    rows = np.random.default_rng(0).normal(3, 2, (11, 2))
    moments = Moments.zeros((2,))
    moments.update(rows)
    np.testing.assert_allclose(moments.mean, rows.mean(axis=0))
    np.testing.assert_allclose(moments.std, rows.std(axis=0))
    assert moments.count == 11


def test_a_minibatch_contains_no_step_twice() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(10, 3)).astype(np.float32), generator.normal(5, 2, 10)
    weights = []
    for size in (10, 256):
        given = ValueSettings(hidden=(5,), value_learning_rate=0.05, value_passes=3, value_batch_size=size)
        value = ValueFunction(Layout.of(SPACE), given, None, seed=0)
        value.fit(x, y, 0)
        weights.append([v.numpy() for v in value.variables])
    for left, right in zip(*weights, strict=True):
        np.testing.assert_array_equal(left, right)


def test_the_loss_of_a_fit_is_that_of_its_last_pass() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(32, 3)).astype(np.float32), generator.normal(5, 2, 32)

    def fitting(passes: int) -> ValueFunction:
        given = ValueSettings(hidden=(5,), value_learning_rate=0.05, value_passes=passes, value_batch_size=32)
        return ValueFunction(Layout.of(SPACE), given, None, seed=0)

    once, twice = fitting(1), fitting(2)
    once.fit(x, y, 0)
    left = np.mean((once.predict(x) - y) ** 2) / y.var()
    assert twice.fit(x, y, 0) == pytest.approx(left, rel=1e-4)
