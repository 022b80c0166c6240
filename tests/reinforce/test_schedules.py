"""Learning rates: schedules, and adaptation to the KL divergence of the steps."""

from __future__ import annotations

import numpy as np
import pytest

from pgkeras.environments.trajectory import Trajectory
from pgkeras.reinforce.learner import Learner
from pgkeras.reinforce.schedules import adapted, factor
from pgkeras.settings.config import Config
from pgkeras.spaces import Box, Discrete


def test_factors_of_the_schedules() -> None:
    assert [factor("constant", p) for p in (0.0, 0.3, 1.0)] == [1.0, 1.0, 1.0]
    assert [factor("linear", p) for p in (0.0, 0.25, 1.0)] == [1.0, 0.75, 0.0]
    assert [factor("cooldown", p) for p in (0.0, 0.6, 0.8, 1.0)] == pytest.approx([1.0, 1.0, 0.5, 0.0])


@pytest.mark.parametrize("start", [1e-4, 0.003, 0.1])
@pytest.mark.parametrize("curvature", [30.0, 1e3, 1e5])
def test_the_learning_rate_converges_to_the_target_kl(start: float, curvature: float) -> None:
    # To second order, a step of size a has the KL divergence c a^2.
    target, learning_rate = 0.01, start
    for _ in range(60):
        learning_rate = adapted(learning_rate, curvature * learning_rate**2, target, start)
    wanted = np.clip(np.sqrt(target / curvature), start / 100, start * 100)
    assert learning_rate == pytest.approx(wanted, rel=0.25)


def test_the_learning_rate_stays_within_its_range() -> None:
    learning_rate = 0.01
    for kl in (float("inf"), 0.0):
        for _ in range(100):
            learning_rate = adapted(learning_rate, kl, 0.01, 0.01)
        assert learning_rate == pytest.approx(1e-4 if kl else 1.0)


@pytest.mark.parametrize("learning_rate", [1e-4, 0.3])
def test_a_learners_steps_have_the_target_kl(learning_rate: float) -> None:
    space = Box(np.full(3, -np.inf), np.full(3, np.inf), np.dtype(np.float32))
    config = Config(env_id="x", learning_rate=learning_rate, target_kl=0.005, normalize_observations=False)
    learner = Learner(config, space, Discrete(2))
    generator = np.random.default_rng(0)
    lessons = []
    for epoch in range(60):
        observations = generator.normal(size=(50, 8, 3)).astype(np.float32)
        logits = learner.policy.parameters(observations.reshape(-1, 3)).numpy()
        one = (1 + np.tanh((logits[:, 1] - logits[:, 0]) / 2)) / 2
        samples = (generator.random(400) < one).astype(np.int64).reshape(50, 8)
        trajectory = Trajectory(
            observations, samples, generator.normal(size=(50, 8)), np.full(8, 50), np.ones(8, bool), observations[-1]
        )
        lessons.append(learner.learn(trajectory, epoch, 0.0))
    assert lessons[0].learning_rate == pytest.approx(learning_rate)
    assert np.median([lesson.kl for lesson in lessons[30:]]) == pytest.approx(0.005, rel=0.5)


def test_the_target_follows_the_schedule() -> None:
    space = Box(np.full(3, -np.inf), np.full(3, np.inf), np.dtype(np.float32))
    config = Config(env_id="x", learning_rate=0.02, target_kl=0.1, learning_rate_schedule="linear")
    observations = np.random.default_rng(0).normal(size=(50, 8, 3)).astype(np.float32)
    rewards = np.random.default_rng(1).normal(size=(50, 8))
    trajectory = Trajectory(
        observations, np.ones((50, 8), np.int64), rewards, np.full(8, 50), np.ones(8, bool), observations[-1]
    )
    after = []
    for progress in (0.0, 0.999):
        learner = Learner(config, space, Discrete(2))
        first = learner.learn(trajectory, 0, progress)
        assert 1e-3 < first.kl < 0.1 / 1.5  # below the initial target, above the reduced one
        after.append(learner.learn(trajectory, 1, progress).learning_rate)
    assert after[0] > 0.02 > after[1]
