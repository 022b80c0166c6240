"""Gaussian actions for ranges that N(0, 1) does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from pgkeras.backend import tf
from pgkeras.bundle import bundle
from pgkeras.engines import load
from pgkeras.policy.distributions.gaussian import DiagonalGaussian, units
from pgkeras.runs.training import Training
from pgkeras.settings.config import Config
from pgkeras.spaces import Box
from tests.runs.small import run_to_end


def box(low: list[float], high: list[float]) -> Box:
    return Box(np.array(low), np.array(high), np.dtype(np.float32))


@pytest.mark.parametrize(
    ("low", "high"),
    [(-1, 1), (-0.4, 0.4), (-2, 2), (-3, 3), (0, 1), (-10, 10), (-np.inf, np.inf), (-5, np.inf), (-3e38, 3e38), (5, 5)],
)
def test_ranges_that_a_new_network_fits_have_unit_1(low: float, high: float) -> None:
    np.testing.assert_array_equal(np.concatenate(units(box([low], [high]))), [0, 1])


BOUNDS = [-1e4, -190, -100, -20, -7, -3, -1, -0.5, -0.4, -0.01, 0, 0.02, 0.3, 0.4, 0.8, 1, 2, 6, 10, 90, 100, 190, 1e4]
ENDLESS = [-np.inf, -1e13, *BOUNDS, 1e9, 1e13, 1e14, np.inf]


def test_a_new_network_acts_within_any_bounds() -> None:
    lows, highs = zip(*[(low, high) for low in ENDLESS for high in ENDLESS if low < high], strict=True)
    space = box([*lows], [*highs])
    distribution = DiagonalGaussian(space)
    noise = np.random.default_rng(0).normal(size=(1000, len(lows))).astype(np.float32)
    parameters = tf.zeros([len(noise), distribution.parameter_size])
    actions = distribution.action(distribution.sample(parameters, tf.constant(noise))).numpy()
    inside = (actions > space.low) & (actions < space.high)
    for low, high, column, within in zip(lows, highs, actions.T, inside.T, strict=True):
        assert within.mean() > 0.2, (low, high)
        assert len(np.unique(column[within])) > 100, (low, high)
        if np.isfinite(low) and np.isfinite(high) and high - low < 1e10:
            assert np.ptp(column) > 0.25 * (high - low), (low, high)


def test_the_distribution_is_reported_in_the_spaces_units() -> None:
    space = box([400.0, -1.0, -0.01], [600.0, 1.0, 0.01])
    distribution = DiagonalGaussian(space)
    generator = np.random.default_rng(0)
    raw_mean, raw_log_std = generator.normal(0, 0.3, (5, 3)), generator.normal(-1, 0.3, (5, 3))
    parameters = tf.constant(np.concatenate([raw_mean, raw_log_std], axis=1))
    mean = raw_mean * [100.0, 1.0, 0.01] + [500.0, 0.0, 0.0]
    std = np.exp(raw_log_std) * [100.0, 1.0, 0.01]
    named = distribution.named_parameters(parameters)
    np.testing.assert_allclose(named["mean"], mean)
    np.testing.assert_allclose(named["stddev"], std)
    noise = generator.normal(size=(5, 3))
    drawn = distribution.sample(parameters, tf.constant(noise))
    sample = mean + std * noise
    np.testing.assert_allclose(drawn, sample)
    density = -0.5 * ((sample - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(distribution.log_prob(parameters, drawn), density.sum(axis=1))
    entropy = (np.log(std) + 0.5 * np.log(2 * np.pi * np.e)).sum(axis=1)
    np.testing.assert_allclose(distribution.entropy(parameters), entropy)


class Aim(gymnasium.Env[Any, Any]):
    """Has one step. The reward is minus the distance of the action from 75 % of the range, at most 0."""

    def __init__(self, low: float, high: float) -> None:
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.action_space = gymnasium.spaces.Box(low, high, (1,), np.float64)
        self._aim, self._width = low + 0.75 * (high - low), high - low

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        away = abs(float(action[0]) - self._aim) / self._width
        return np.zeros(1, np.float32), -away, True, False, {}


@pytest.mark.parametrize(("low", "high"), [(-1000.0, 1000.0), (5.0, 100.0), (-6.0, -2.0), (-0.01, 0.01)])
def test_ranges_far_from_one_are_learned_by_default(
    low: float, high: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = gymnasium.envs.registration.EnvSpec("Far-v0", lambda: Aim(low, high))
    monkeypatch.setitem(gymnasium.registry, "Far-v0", spec)
    training = run_to_end(Training(Config(env_id="Far-v0", steps=20_000, loggers="none", seed=1, episodes=64)))
    assert training.mean_return_100 > -0.1  # the center of the range gives -0.25
    exported = bundle.open_bundle(training.export(tmp_path).path)
    answer = load(exported, "litert").act(
        {"observation": np.zeros((1, 1), np.float32), "noise": np.zeros((1, 1), np.float32)}
    )
    assert abs(float(answer["mean"][0, 0]) - (low + 0.75 * (high - low))) < 0.1 * (high - low)
