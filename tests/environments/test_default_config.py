"""Default settings of environments without a preset."""

from __future__ import annotations

import numpy as np
import pytest

import tests.reinforce.bandits  # noqa: F401 - registers Dial-v0 and Choice-v0
from pgkeras.environments.default_config import LONGEST_EPISODE, config_for
from pgkeras.runs.training import Training
from pgkeras.settings.config import read_preset, resolve
from pgkeras.spaces import Box, Discrete

CONTINUOUS = read_preset("continuous")


def differ(config):
    return {name for name, value in CONTINUOUS.items() if getattr(config, name) != value}


@pytest.mark.parametrize("env_id", ["Dial-v0", "tests.reinforce.bandits:Knobs-v0"])
def test_continuous_actions_have_a_preset(env_id):
    config = config_for(env_id, overrides={"gamma": 0.5})
    assert not differ(config)
    assert (config.env_id, config.gamma) == (env_id, 0.5)


def test_discrete_actions_have_a_preset():
    config = config_for("Choice-v0", overrides={"gamma": 0.5})
    assert config == resolve("Choice-v0", "discrete", {"gamma": 0.5, "max_episode_steps": config.max_episode_steps})
    assert config.entropy_bonus > 0 == resolve("Choice-v0").entropy_bonus


def test_endless_episodes_are_truncated_with_a_warning(caplog):
    endless = {"env_kwargs": {"length": 10**6}, "envs": 1, "episodes": 1, "hidden": (4,), "steps": 1}
    config = config_for("tests.environments.fragile:Fragile-v0", overrides=endless)
    assert config.max_episode_steps == LONGEST_EPISODE
    training = Training(config)
    assert [metrics.env_steps for metrics in training] == [LONGEST_EPISODE]
    training.finish()
    assert "Fragile-v0 has no limit on episode length, so episodes were truncated after 10,000 steps" in caplog.text
    assert config_for("CliffWalking-v1", overrides={"max_episode_steps": 50}).max_episode_steps == 50
    assert config_for("FrozenLake-v1").max_episode_steps is None, "the environment has a limit"
    assert config_for("CliffWalking-v1", "discrete").max_episode_steps is None


def test_an_environment_that_cannot_be_created_has_the_defaults():
    assert config_for("Unheard-v0") == resolve("Unheard-v0"), "the error is raised on the first play"


def test_a_named_preset_and_the_environments_preset_take_precedence():
    assert config_for("Dial-v0", "default") == resolve("Dial-v0", "default")
    assert config_for("Pendulum-v1") == resolve("Pendulum-v1") != resolve("Pendulum-v1", "continuous")


def test_the_action_space_of_a_simulator_selects_the_preset():
    box = Box(np.zeros(2), np.ones(2), np.dtype(np.float32))
    assert not differ(config_for("my-robot", action_space=box))
    assert config_for("my-game", action_space=Discrete(3)) == resolve("my-game", "discrete")
