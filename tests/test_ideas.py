"""Each idea of the ablations has its described effect, and no effect after its context has ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import ideas
from pgkeras.engines import noise
from pgkeras.environments.trajectory import Trajectory
from pgkeras.reinforce import returns
from pgkeras.reinforce.value import ValueFunction
from pgkeras.runs.training import Training
from pgkeras.settings.config import Config
from pgkeras.settings.groups import ValueSettings
from pgkeras.spaces import Box
from pgkeras.spaces.layout import Layout
from tests.runs.small import run_to_end

SMALL = {"envs": 4, "episodes": 4, "hidden": (4,), "loggers": "none", "vectorization": "plain", "act_engine": "litert"}


def config(env_id: str = "CartPole-v1", **settings: Any) -> Config:
    return Config(env_id=env_id, **SMALL | {"steps": 10**6} | settings)


def batch(training: Training) -> Trajectory:
    """Collects the next batch of episodes without training."""
    return training._phases.collector.collect(training.config.episodes, np.random.SeedSequence(0))


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_the_noise_of_every_second_environment_is_mirrored(env_id: str) -> None:
    given = config(env_id, max_episode_steps=5)
    training = Training(given)
    spec = training.policy.spec
    with ideas.mirrored_noise(given):
        drawn = next(iter(noise.steps(np.random.default_rng(0), spec, given.envs)))
    plain = next(iter(noise.steps(np.random.default_rng(0), spec, given.envs)))
    mirror = -drawn[::2] if spec.noise == "normal" else 1 - drawn[::2]
    np.testing.assert_allclose(drawn[1::2], mirror, atol=1e-6)
    np.testing.assert_array_equal(drawn[::2], plain[::2])
    assert spec.noise == "normal" or ((drawn >= 0).all() and (drawn < 1).all())


def test_a_policy_whose_noise_is_mirrored_is_exported(tmp_path: Path) -> None:
    given = config(envs=6, episodes=6, steps=200)  # 6 does not divide the number of an export's examples
    with ideas.mirrored_noise(given):
        training = run_to_end(Training(given))
        assert training.export(tmp_path).version == 1


def test_all_episodes_of_a_batch_have_the_same_first_observation() -> None:
    training = Training(config())
    with ideas.one_start(training.config):
        first = batch(training).observations[0]
    assert (first == first[0]).all()
    assert not (batch(training).observations[0] == first[0]).all()


def test_the_value_network_is_fitted_to_the_symmetric_logarithm_and_predicts_returns() -> None:
    observations = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    of = np.where(np.arange(64) % 2, 1e6, -3.0)
    value = ValueFunction(
        Layout.of(Box(-np.ones(2), np.ones(2), np.dtype(np.float32))), ValueSettings(hidden=(4,)), None, seed=0
    )
    with ideas.symmetric_logarithm(config()):
        value.fit(observations, of, epoch=0)
        predicted = value.predict(observations)
    squeezed = np.sign(of) * np.log(1 + np.abs(of))
    assert value.returns.mean == pytest.approx(squeezed.mean())
    inner = value.predict(observations)  # outside the context, the network's own output
    np.testing.assert_allclose(predicted, np.sign(inner) * (np.exp(np.abs(inner)) - 1), rtol=1e-6)


def test_advantages_are_clipped_at_three_times_their_root_mean_square() -> None:
    values = np.array([[0.1, -0.1, 50.0, *[0.1] * 20]])
    mask = np.ones_like(values, np.bool_)
    with ideas.clipped_advantages(config()):
        cut = returns.rescale(values, values, mask)
    scaled = values / np.sqrt((values**2).mean())
    assert scaled.max() > 3
    np.testing.assert_allclose(cut, np.minimum(scaled, 3.0))
    np.testing.assert_allclose(returns.rescale(values, values, mask), scaled)


def test_the_standard_deviation_depends_on_the_state_and_starts_as_configured() -> None:
    given = config("Pendulum-v1", initial_log_std=-1.0, steps=2000, learning_rate=0.05)
    observations = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    with ideas.state_dependent_deviation(given):
        training = Training(given)
        before = training.policy.parameters(observations).numpy()[:, 1]
        run_to_end(training)
        after = training.policy.parameters(observations).numpy()[:, 1]
    np.testing.assert_allclose(before, -1.0, atol=0.1)
    assert after.std() > 2 * before.std() > 0
    plain = Training(given).policy.parameters(observations).numpy()[:, 1]
    assert plain.std() == 0


def test_the_final_policy_has_averaged_weights() -> None:
    given = config(steps=600)
    seen: list[NDArray[Any]] = []
    with ideas.averaged_weights(given) as more:
        training = Training(given, **more)
        seen.extend(training.policy.weights()[0] for _ in training)
        training.finish()
    expected = seen[0]
    for weights in seen:
        expected = 0.97 * expected + 0.03 * weights
    assert len(seen) > 3
    np.testing.assert_allclose(training.policy.weights()[0], expected, rtol=1e-5)


def test_batches_grow_fourfold_over_a_run() -> None:
    given = config(steps=3000)
    played = []
    with ideas.growing_batches(given):
        training = Training(given)
        before = 0
        for metrics in training:
            played.append((metrics.episodes - before, metrics.env_steps))
            before = metrics.episodes
        training.finish()
    starts = [0, *(steps for _, steps in played)]
    assert [episodes for episodes, _ in played] == [round(4 * (1 + 3 * min(1, s / 3000))) for s in starts[:-1]]
    assert played[-1][0] > 8
