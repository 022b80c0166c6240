"""The KL target decreases when the advantages become small."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pgkeras.reinforce.learner import Learner
from pgkeras.reinforce.settling import Settling
from pgkeras.settings.config import Config
from pgkeras.spaces import Discrete
from tests.reinforce.test_natural import LENGTHS, OBSERVATION
from tests.reinforce.test_reinforce import batch

TARGET = 1e-3
SETTINGS: dict[str, Any] = {"hidden": (), "normalize_observations": False, "target_kl": TARGET}


def natural(**settings: Any) -> Learner:
    config = Config(env_id="E", **SETTINGS, optimizer="natural", fisher_damping=1e-5, **settings)
    return Learner(config, OBSERVATION, Discrete(3))


def test_the_factor_is_quadratic_below_half_of_the_largest_running_mean() -> None:
    sizes = np.random.default_rng(0).lognormal(size=200)
    sizes[50:150] *= 0.05
    settling, mean, largest = Settling(), sizes[0], 0.0
    for size in sizes:
        mean = 0.9 * mean + 0.1 * size
        largest = max(largest, mean)
        assert settling.update(size) == pytest.approx(min(1.0, (2 * size / largest) ** 2))
    assert settling.update(0.0) == 1.0, "no gradient says nothing"
    assert settling.update(largest) == 1.0


def test_a_natural_step_is_smaller_if_returns_are_nearly_equal() -> None:
    episodes = batch(LENGTHS, Discrete(3))
    alike = episodes._replace(rewards=0.1 * episodes.rewards)
    settles, constant = natural(target_kl_settles=True), natural()
    for made in (settles, constant):
        assert made.learn(episodes, 0, 0.0).kl == pytest.approx(TARGET, rel=0.4)
    resumed = natural(target_kl_settles=True)
    resumed.restore(settles.state())
    assert constant.learn(alike, 1, 0.0).kl == pytest.approx(TARGET, rel=0.4), "rescaled, they are as large as before"
    assert settles.learn(alike, 1, 0.0).kl == pytest.approx(TARGET * 0.2**2, rel=0.4)
    resumed.learn(alike, 1, 0.0)
    for x, y in zip(settles.state().values(), resumed.state().values(), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("settles", [False, True])
def test_the_learning_rate_of_sgd_follows_the_reduced_target(settles: bool) -> None:
    config = Config(env_id="E", **SETTINGS, optimizer="sgd", learning_rate=0.01, target_kl_settles=settles)
    made = Learner(config, OBSERVATION, Discrete(3))
    episodes = batch(LENGTHS, Discrete(3))
    alike = episodes._replace(rewards=0.1 * episodes.rewards)
    made.learn(episodes, 0, 0.0)
    for epoch in range(1, 60):
        lesson = made.learn(alike, epoch, 0.0)
    assert lesson.kl == pytest.approx(TARGET * (0.2**2 if settles else 1), rel=0.7)
