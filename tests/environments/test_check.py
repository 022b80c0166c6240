"""The return values of an environment are checked once, and errors say where they occurred."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from pgkeras import environments
from pgkeras.environments.rows import as_reward
from pgkeras.errors import EnvironmentSetupError, EnvironmentStepError
from pgkeras.runs.training import Training
from pgkeras.settings.config import Config
from pgkeras.settings.recipe import Recipe, WrapperCall

OBSERVATION = np.zeros(2, np.float32)


class Legal(gymnasium.Env[Any, Any]):
    observation_space: Any = Box(-1.0, 1.0, (2,), np.float32)
    action_space: Any = Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return OBSERVATION, {}

    def step(self, action: Any) -> Any:
        return OBSERVATION, 1.0, False, True, {}


def resets(value: Any) -> type[Legal]:
    return type("Resets", (Legal,), {"reset": lambda *_, **__: value})


def steps(value: Any) -> type[Legal]:
    return type("Steps", (Legal,), {"step": lambda *_: value})


def raising(method: str) -> type[Legal]:
    def broken(*_: Any, **__: Any) -> Any:
        raise AssertionError

    return type("Raising", (Legal,), {method: broken})


OLD = "interface of the old Gym"
CASES = {
    "reset returns an observation": (resets(OBSERVATION), rf"reset\(\) returned an object of type ndarray.*{OLD}"),
    "reset returns None": (resets(None), rf"reset\(\) returned None.*{OLD}"),
    "reset takes no seed": (type("NoSeed", (Legal,), {"reset": lambda self: OBSERVATION}), rf"accepts no seed.*{OLD}"),
    "reset returns no info": (resets((OBSERVATION, None)), r"reset\(\) returned None as info"),
    "four values": (steps((OBSERVATION, 1.0, False, {})), rf"step\(\) returned 4 values, expected 5.*{OLD}"),
    "step returns None": (steps(None), rf"step\(\) returned None.*{OLD}"),
    "terminated is None": (steps((OBSERVATION, 1.0, None, False, {})), r"step\(\) returned None as terminated"),
    "truncated is text": (steps((OBSERVATION, 1.0, False, "no", {})), "returned an object of type str as truncated"),
    "info is text": (
        steps((OBSERVATION, 1.0, False, False, "info")),
        r"step\(\) returned an object of type str as info",
    ),
    "reward is text": (steps((OBSERVATION, "1.0", False, False, {})), r"expected a number as reward.*\(str\)"),
    "reward is None": (steps((OBSERVATION, None, False, False, {})), r"expected a number as reward.*\(NoneType\)"),
    "raw dict": (type("Raw", (Legal,), {"observation_space": {"a": 1}}), "observation_space is an object of type dict"),
    "raw list": (type("Raw", (Legal,), {"action_space": [0, 1]}), "action_space is an object of type list"),
    "reset raises": (raising("reset"), r"failed at reset: AssertionError \(.*test_check.py, line \d+, in broken\)"),
    "step raises": (raising("step"), r"failed at step: AssertionError \(.*test_check.py, line \d+, in broken\)"),
    "constructor raises": (
        raising("__init__"),
        r"cannot be created: AssertionError \(.*test_check.py, line \d+, in broken",
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_setup_errors_name_the_invalid_return_value(case: str) -> None:
    kind, message = CASES[case]
    gymnasium.register("Checked-v0", kind)
    try:
        with pytest.raises(EnvironmentSetupError, match=message):
            environments.look(environments.make("Checked-v0", 2, "plain"), 0)
    finally:
        del gymnasium.registry["Checked-v0"]


def test_worker_processes_check_the_interface() -> None:
    envs = environments.make("tests.environments.fragile:OldGym-v0", 2, "async", workers=1)
    try:
        with pytest.raises(EnvironmentSetupError, match=OLD):
            environments.look(envs, 0)
    finally:
        envs.close()


@pytest.mark.parametrize(
    "reward", [1, 1.0, True, np.float32(1), np.int8(1), np.array(1.0), np.array([[1]]), np.array([True])]
)
def test_numbers_and_arrays_of_one_element_are_rewards(reward: Any) -> None:
    assert as_reward(reward) == 1.0


@pytest.mark.parametrize("reward", ["1", None, [1.0], np.ones(2), np.zeros(0), np.array("1"), {}, 1j])
def test_other_types_are_not_rewards(reward: Any) -> None:
    with pytest.raises(EnvironmentStepError, match=f"got .*{type(reward).__name__}"):
        as_reward(reward)


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("MiniGrid-DoorKey-5x5-v0", "the module minigrid registers it: .*minigrid:MiniGrid-DoorKey-5x5-v0"),
        ("dm_control/cartpole-balance-v0", "the module shimmy registers it"),
        ("Nothing-v0", "put the module first, as in my_module:Mine-v0"),
    ],
)
def test_an_unknown_id_suggests_the_module_that_registers_it(
    env_id: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(gymnasium.registry, env_id, raising=False)  # another test may have imported its module
    with pytest.raises(EnvironmentSetupError, match=message):
        environments.make(env_id, 1)


def test_a_missing_package_is_named_with_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minatar", None)
    advice = r'registers it: install it with: pip install "minatar", and use the id minatar\.gym:MinAtar/Nothing-v1'
    with pytest.raises(EnvironmentSetupError, match=advice):
        environments.make("MinAtar/Nothing-v1", 1)


def test_a_module_that_exits_on_import_is_a_setup_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "script_that_exits.py").write_text("import sys\n\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EnvironmentSetupError, match=r"cannot import module 'script_that_exits', .*: SystemExit: 0"):
        environments.make("script_that_exits:Mine-v0", 1)
    recipe = Recipe("CartPole-v1", {}, (WrapperCall("script_that_exits:Mine"),))
    with pytest.raises(EnvironmentSetupError, match=r"cannot import module 'script_that_exits': SystemExit: 0"):
        environments.make(recipe, 1)


def test_environments_without_single_copies_use_the_vector_entry_point() -> None:
    from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv

    gymnasium.register("Vectors-v0", vector_entry_point=CartPoleVectorEnv)
    try:
        envs = environments.make("Vectors-v0", 3, "plain")
        assert isinstance(envs, environments.VectorEnvironments)
        envs.close()
    finally:
        del gymnasium.registry["Vectors-v0"]


class LateMask(gymnasium.Env[Any, Any]):
    """All actions are allowed at first. From the first step on, the last action is an error."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self._steps == 0 or action < 2
        self._steps += 1
        return np.zeros(2, np.float32), 1.0, self._steps == 5, False, {"action_mask": np.array([1, 1, 0], np.int8)}


gymnasium.register("LateMask-v0", LateMask)


@pytest.mark.parametrize("way", ["plain", "sync", "async"])
def test_masks_that_only_steps_return_are_used(way: str) -> None:
    settings: dict[str, Any] = {
        "vectorization": way,
        "envs": 2,
        "episodes": 8,
        "steps": 200,
        "loggers": "none",
        "env_workers": 1,
    }
    training = Training(Config(env_id=f"{__name__}:LateMask-v0", **settings))
    assert training.policy.spec.mask_size == 3
    metrics = list(training)
    training.finish()
    assert metrics[-1].env_steps >= 200


class Missions(gymnasium.Space[Any]):
    """Texts, like MiniGrid's MissionSpace."""

    def __init__(self) -> None:
        super().__init__(dtype=str)

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        return f"fetch the thing{chr(97 + self.np_random.integers(26))}{chr(97 + self.np_random.integers(26))}"

    def contains(self, x: Any) -> bool:
        return isinstance(x, str)


class Fetch(Legal):
    observation_space = gymnasium.spaces.Dict({"mission": Missions(), "place": Box(-1.0, 1.0, (2,), np.float32)})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return {"mission": "fetch the thing", "place": OBSERVATION}, {}

    def step(self, action: Any) -> Any:
        return *self.reset()[:1], 1.0, False, True, {}


gymnasium.register("Missions-v0", Fetch)


@pytest.mark.parametrize("way", ["plain", "sync"])
def test_the_same_seed_gives_the_same_vocabulary(way: str) -> None:
    found = []
    for seed in (3, 3, 4):
        made = environments.make(f"{__name__}:Missions-v0", 2, way)
        space: Any = environments.look(made, seed).observation_space
        found.append(space.spaces["mission"].vocabulary)
        made.close()
    assert found[0] == found[1]
    assert found[0] != found[2]
