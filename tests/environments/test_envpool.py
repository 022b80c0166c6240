"""EnvPool environments. Skipped if EnvPool is not installed, because its assets take 1 GB."""

from __future__ import annotations

import numpy as np
import pytest

from pgkeras import environments
from pgkeras.environments import PoolEnvironments, Recipe
from pgkeras.environments.collect import Collector
from pgkeras.errors import EnvironmentSetupError
from tests.environments.test_collect import ScriptedActor, assert_obeys_cartpole, assert_same

pytest.importorskip("envpool")


def test_episodes_obey_the_equations_and_the_seed() -> None:
    envs = environments.make("CartPole-v1", 6, "envpool")
    assert isinstance(envs, PoolEnvironments)
    assert envs.spec is not None
    assert envs.spec.reward_threshold == 475
    collector = Collector(envs, ScriptedActor(envs, by_noise=True))
    first, second = (collector.collect(20, np.random.SeedSequence(3, spawn_key=(i,))) for i in range(2))
    assert_same(collector.collect(20, np.random.SeedSequence(3, spawn_key=(0,))), first)
    assert not np.array_equal(first.observations[0], second.observations[0])
    assert len(np.unique(first.observations[0], axis=0)) == 20
    assert_obeys_cartpole(first)
    envs.close()


def test_a_limit_truncates() -> None:
    envs = environments.make("CartPole-v1", 3, "envpool", max_episode_steps=5)
    trajectory = Collector(envs, ScriptedActor(envs)).collect(6, np.random.SeedSequence(0))
    assert trajectory.lengths.max() == 5
    assert not trajectory.terminated[trajectory.lengths == 5].any()
    envs.close()


def test_unknown_ids_and_settings_are_named() -> None:
    with pytest.raises(EnvironmentSetupError, match="Nope-v1: EnvPool cannot create this environment"):
        environments.make("Nope-v1", 2, "envpool")
    with pytest.raises(EnvironmentSetupError, match=r"CartPole-v1: EnvPool cannot create this environment: .*gravitas"):
        environments.make(Recipe("CartPole-v1", {"gravitas": 3}), 2, "envpool")
