"""All vectorization modes play the same episodes and release their resources."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import psutil
import pytest
from gymnasium.envs.registration import WrapperSpec
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from pgkeras import environments
from pgkeras.environments import Environments, PlainEnvironments, ProcessEnvironments, Recipe, VectorEnvironments
from pgkeras.environments.collect import Choice, Collector
from pgkeras.environments.restarting import RestartingEnvironments
from pgkeras.environments.trajectory import Trajectory
from pgkeras.errors import ConfigError, EnvironmentSetupError, EnvironmentStepError, MissingExtraError
from pgkeras.runs.training import Training
from pgkeras.settings.config import Config
from pgkeras.settings.recipe import WrapperCall
from pgkeras.spaces import Discrete
from pgkeras.spaces.spec import DistributionKind, PolicySpec
from tests.environments.scripted import Scripted
from tests.environments.test_collect import ScriptedActor, assert_same

ROOT = Path(__file__).parents[2]
UNRULY = "tests.environments.unruly:Unruly-v0"


def played(envs: Environments, episodes: int = 13, epochs: int = 2) -> list[Trajectory]:
    try:
        collector = Collector(envs, ScriptedActor(envs, by_noise=True))
        return [collector.collect(episodes, np.random.SeedSequence(5, spawn_key=(i,))) for i in range(epochs)]
    finally:
        envs.close()


@pytest.mark.parametrize("env_id", [UNRULY, "CartPole-v1"])
@pytest.mark.parametrize(("way", "workers"), [("sync", None), ("async", 1), ("async", 2), ("async", 9)])
def test_the_episodes_equal_those_of_plain_environments(env_id: str, way: str, workers: int | None) -> None:
    plain = played(environments.make(env_id, 5, "plain"))
    other = played(environments.make(env_id, 5, way, workers=workers))
    for one, another in zip(plain, other, strict=True):
        assert_same(one, another)
        assert len(set(one.lengths.tolist())) > 3
    assert not np.array_equal(plain[0].rewards[0], plain[1].rewards[0]) or env_id == "CartPole-v1"


def test_continuous_actions_reach_the_workers() -> None:
    plain = played(environments.make("Pendulum-v1", 3, "plain", 20), 4, 1)
    other = played(environments.make("Pendulum-v1", 3, "async", 20, workers=2), 4, 1)
    assert_same(plain[0], other[0])


def test_workers_do_not_step_idle_slots() -> None:
    envs = environments.make(UNRULY, 2, "async", workers=2)
    collector = Collector(envs, ScriptedActor(envs, by_noise=True))
    collector.collect(1, np.random.SeedSequence(0))
    assert (envs.lockstep, collector.idle_steps) == (False, 0)
    envs.close()


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    return [child for child in process.children(recursive=True) if "multiprocessing.spawn" in " ".join(child.cmdline())]


def test_close_ends_the_workers() -> None:
    before = set(psutil.Process().children())
    envs = environments.make(UNRULY, 3, "async", workers=3)
    workers = [p for p in workers_of(psutil.Process()) if p not in before]
    assert len(workers) == 3
    envs.close()
    envs.close()
    assert not [worker for worker in workers if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE]


def test_workers_end_with_the_last_reference() -> None:
    envs = environments.make(UNRULY, 2, "async", workers=1)
    (worker,) = workers_of(psutil.Process())[-1:]
    del envs
    assert psutil.wait_procs([worker], timeout=20)[1] == []


def test_a_run_that_cannot_be_set_up_leaves_no_workers() -> None:
    config = Config(env_id=UNRULY, vectorization="async", env_workers=1, envs=2, activation="nonsense")
    before = workers_of(psutil.Process())
    with pytest.raises(ConfigError, match="activation 'nonsense'") as caught:
        Training(config)
    assert caught.tb is not None, "the traceback keeps the frames alive"
    assert workers_of(psutil.Process()) == before


@pytest.mark.slow
def test_a_missing_main_guard_is_named(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text('import pgkeras\npgkeras.train("CartPole-v1", vectorization="async", envs=1, steps=100)\n')
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "serving")])}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("pgkeras.errors.EnvironmentSetupError: CartPole-v1: the environment cannot be created: ")
    assert last.endswith('must do so under: if __name__ == "__main__":')


@pytest.mark.parametrize("busy", [pytest.param(False, marks=pytest.mark.slow), True])
def test_workers_do_not_outlive_a_killed_process(tmp_path: Path, busy: bool) -> None:
    fault = "spins" if busy else "none"
    code = f"""
import numpy as np
from pgkeras import environments
from pgkeras.collect import Collector
from tests.environments.test_ways import UNRULY, Recipe, ScriptedActor
if __name__ == "__main__":
    envs = environments.make(Recipe(UNRULY, {{"fault": {fault!r}, "at": 3}}), 2, "async", workers=2)
    print("ready", flush=True)
    while True:
        Collector(envs, ScriptedActor(envs)).collect(4, np.random.SeedSequence(0))
"""
    script = tmp_path / "script.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "serving")])}
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, env=environment, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        workers = workers_of(psutil.Process(process.pid))
        assert len(workers) == 2
        time.sleep(0.5)
        process.send_signal(signal.SIGKILL)
        assert psutil.wait_procs(workers, timeout=20)[1] == []
    finally:
        process.kill()
        process.communicate()


def test_keyword_arguments_reach_the_environment_in_every_mode() -> None:
    for way in ("vector", "plain"):
        with pytest.raises(EnvironmentSetupError, match=r"CartPole-v1.* with gravitas=1.*gravitas"):
            environments.make(Recipe("CartPole-v1", {"gravitas": 1}), 2, way)
    with pytest.raises(EnvironmentSetupError, match=r"Unruly-v0.* with fautl='x'.*fautl"):
        environments.make(Recipe(UNRULY, {"fautl": "x"}), 2, "async")
    lengths = {
        (way, g): played(environments.make(Recipe("Pendulum-v1", {"g": g}, (), 30), 2, way), 2, 1)[0].rewards.sum()
        for way in ("plain", "sync", "async")
        for g in (1.0, 20.0)
    }
    for g in (1.0, 20.0):
        assert lengths["plain", g] == lengths["sync", g] == lengths["async", g]
    assert lengths["plain", 1.0] != lengths["plain", 20.0]


DOUBLED = WrapperCall("tests.environments.unruly:Doubled", {"factor": 3.0})
SHIFTED = WrapperCall("tests.environments.unruly:Shifted")


@pytest.mark.parametrize("way", ["plain", "sync", "async"])
def test_wrappers_are_applied_from_the_innermost_out(way: str) -> None:
    bare = played(environments.make(UNRULY, 2, "plain"), 2, 1)[0].observations[0]
    for wrappers, expected in (((DOUBLED, SHIFTED), bare * 3 + 1), ((SHIFTED, DOUBLED), (bare + 1) * 3)):
        envs = environments.make(Recipe(UNRULY, {}, wrappers), 2, way)
        np.testing.assert_allclose(played(envs, 2, 1)[0].observations[0], expected, rtol=1e-6)


def test_gymnasium_wrappers_wrap_vector_environments() -> None:
    recipe = Recipe("CartPole-v1", {}, (WrapperCall("ClipReward", {"max_reward": 0.25}),))
    for slots, kind in ((4, VectorEnvironments), (1, PlainEnvironments)):
        envs = environments.make(recipe, slots)
        assert isinstance(envs, kind)
        trajectory = played(envs, 4, 1)[0]
        assert (trajectory.rewards[trajectory.mask] == 0.25).all()


def test_a_wrapper_without_a_vector_version_falls_back_to_plain_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recipe = Recipe("CartPole-v1", {}, (DOUBLED,))
    assert isinstance(environments.make(recipe, 4), PlainEnvironments)
    assert "CartPole-v1: wrapper tests.environments.unruly:Doubled cannot wrap" in caplog.text
    with pytest.raises(EnvironmentSetupError, match="Doubled cannot wrap a vector environment; use vectorization=pl"):
        environments.make(recipe, 4, "vector")


def test_a_registration_with_wrappers_falls_back_to_plain(
    caplog: pytest.LogCaptureFixture,
) -> None:
    spec = gymnasium.spec("CartPole-v1")
    gymnasium.register(
        "Wrapped-v0",
        spec.entry_point,
        vector_entry_point=spec.vector_entry_point,
        max_episode_steps=50,
        additional_wrappers=(WrapperSpec("Clip", "gymnasium.wrappers:ClipReward", {"max_reward": 0.25}),),
    )
    try:
        assert_same(*(played(environments.make("Wrapped-v0", 4, way), 6, 1)[0] for way in ("auto", "plain")))
        assert "Wrapped-v0: wrapper Clip cannot wrap the vector entry point; falling back" in caplog.text
        with pytest.raises(EnvironmentSetupError, match="wrapper Clip cannot wrap a vector environment; use vectoriz"):
            environments.make("Wrapped-v0", 4, "vector")
    finally:
        del gymnasium.registry["Wrapped-v0"]


def first_results(env: Any) -> list[Any]:
    """Returns the observations and rewards of an environment after a seeded reset."""
    observation, _ = env.reset(seed=3)
    shown = [observation, 0.0]
    for i in range(5):
        shown.extend(env.step(i % 2)[:2])
    return [np.asarray(part, np.float64).tolist() for part in shown]


@pytest.mark.parametrize(
    "call",
    [
        WrapperCall("NormalizeObservation"),
        WrapperCall("NormalizeReward"),
        WrapperCall("tests.environments.unruly:Centred"),
        WrapperCall("tests.environments.unruly:Doubled"),
        WrapperCall("ClipReward", {"max_reward": 0.5}),
        WrapperCall("FrameStackObservation", {"stack_size": 2}),
        WrapperCall("RecordEpisodeStatistics"),
        WrapperCall("RescaleObservation", {"min_obs": -1, "max_obs": 1}),
    ],
    ids=lambda call: call.name.rpartition(":")[2],
)
def test_wrappers_with_running_statistics_cause_a_warning(call: WrapperCall, caplog: pytest.LogCaptureFixture) -> None:
    recipe = Recipe("Acrobot-v1" if call.name == "RescaleObservation" else "CartPole-v1", {}, (call,))
    used, new = (environments.make_one(recipe) for _ in range(2))
    for _ in range(3):
        first_results(used)
    keeps_state = first_results(used) != first_results(new)  # a resumed run and an evaluation lose this state
    for way in ("auto", "plain", "sync", "async"):
        caplog.clear()
        environments.make(recipe, 2, way, workers=1).close()
        warned = [record.message for record in caplog.records if "keeps running statistics" in record.message]
        assert len(warned) == keeps_state, way
        assert all(call.name.rpartition(":")[2] in message for message in warned)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (WrapperCall("ClipRewards"), "wrapper ClipRewards: .*did you mean ClipReward"),
        (WrapperCall("no_such_module:X"), "wrapper no_such_module:X: cannot import module 'no_such_module'"),
        (WrapperCall("tests.environments.unruly:X"), "wrapper tests.environments.unruly:X: .*has no wrapper 'X'"),
        (WrapperCall("ClipReward", {"top": 1}), r"wrapper ClipReward\(top=1\) cannot be applied: TypeError"),
        (WrapperCall("numpy:array"), "wrapper numpy:array: expected it to return a gymnasium.Env, got ndarray"),
    ],
)
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_wrappers_that_cannot_be_applied_are_named(env_id: str, call: WrapperCall, message: str) -> None:
    with pytest.raises(EnvironmentSetupError, match=message):
        environments.make(Recipe(env_id, {}, (call,)), 4)


def test_a_recipe_is_read_from_settings() -> None:
    wrappers = ["A", {"name": "m:B", "kwargs": {"n": 1}}]
    settings = {"env_id": "E-v0", "env_kwargs": {"a": 1}, "wrappers": wrappers, "max_episode_steps": 9, "gamma": 1}
    assert Recipe.read(settings) == Recipe("E-v0", {"a": 1}, (WrapperCall("A"), WrapperCall("m:B", {"n": 1})), 9)
    assert Recipe.read({"env_id": "E-v0"}) == Recipe("E-v0")
    with pytest.raises(ConfigError, match="wrappers: expected names"):
        Recipe.read({"env_id": "E-v0", "wrappers": [7]})


def test_a_missing_envpool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(MissingExtraError, match=r'pip install "pgkeras\[envpool\]"'):
        environments.make("CartPole-v1", 2, "envpool")
    with pytest.raises(EnvironmentSetupError, match="wrapper ClipReward cannot wrap EnvPool environments"):
        environments.make(Recipe("CartPole-v1", {}, (WrapperCall("ClipReward"),)), 2, "envpool")


def test_sync_environments_have_their_specification() -> None:
    envs = environments.make("CartPole-v1", 2, "sync")
    assert envs.spec is not None
    assert (envs.spec.id, envs.spec.reward_threshold) == ("CartPole-v1", 475.0)
    envs.close()


def test_shares_of_slots_are_even() -> None:
    envs = environments.make(UNRULY, 7, "async", workers=3)
    assert isinstance(envs, ProcessEnvironments)
    observations: NDArray[Any] = played(envs, 7, 1)[0].observations[0]
    np.testing.assert_array_equal(observations, played(environments.make(UNRULY, 7, "plain"), 7, 1)[0].observations[0])


@pytest.mark.parametrize("env_id", ["KnightsTour-v0", "KnightsTourDict-v0"])
@pytest.mark.parametrize("way", ["sync", "async"])
def test_masks_reach_the_policy(env_id: str, way: str) -> None:
    # The environment raises an error for an illegal action.
    recipe = Recipe(f"benchmarks.environments:{env_id}", {"size": 5})
    trajectories = []
    for kind in ("plain", way):
        envs = environments.make(recipe, 3, kind)
        look = environments.look(envs, 0, True)
        spec = PolicySpec(look.observation_space, Discrete(25), DistributionKind.CATEGORICAL, mask_size=look.mask_size)
        trajectories.append(Collector(envs, FirstLegal(spec)).collect(5, np.random.SeedSequence(0)))
        envs.close()
    assert_same(*trajectories)


class Masked(gymnasium.Env[Any, Any]):
    """Returns masks in the given form, always or only at some steps."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, form: str = "array", when: str = "always") -> None:
        self._form, self._when = form, when
        self.action_space = gymnasium.spaces.MultiDiscrete([2, 3]) if form == "tuple" else gymnasium.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._t, self._length = 0, int(self.np_random.integers(2, 7))
        return np.zeros(2, np.float32), self._info()

    def step(self, action: Any) -> Any:
        self._t += 1
        return np.full(2, self._t / 10, np.float32), 1.0, self._t >= self._length, False, self._info()

    def _info(self) -> dict[str, Any]:
        if {"resets": self._t > 0, "steps": self._t == 0, "odd": self._t % 2 == 0}.get(self._when, False):
            return {}
        allowed = np.array([self._t % 3 == 0, self._t % 2 == 0, True])
        forms = {"array": allowed, "list": allowed.tolist(), "tuple": (np.array([True, False]), allowed)}
        return {"action_mask": forms[self._form]}


gymnasium.register("Masked-v0", Masked)


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize(
    ("form", "when"),
    [
        ("array", "always"),
        ("list", "always"),
        ("tuple", "always"),
        ("array", "resets"),
        ("array", "steps"),
        ("list", "odd"),
        ("tuple", "odd"),
    ],
)
def test_masks_of_any_form_equal_those_of_plain_environments(mode: AutoresetMode, form: str, when: str) -> None:
    recipe = Recipe(f"{__name__}:Masked-v0", {"form": form, "when": when})
    together = SyncVectorEnv([lambda: Masked(form, when)] * 3, autoreset_mode=mode)
    trajectories = []
    for envs in (environments.make(recipe, 3, "plain"), VectorEnvironments(together)):
        look = environments.look(envs, 0, True)
        assert look.mask_size == (5 if form == "tuple" else 3)
        spec = PolicySpec.by_default(look.observation_space, look.action_space, mask_size=look.mask_size)
        trajectories.append(Collector(envs, LastOfEach(spec)).collect(7, np.random.SeedSequence(0)))
        envs.close()
    assert_same(*trajectories)


class LastOfEach:
    """Chooses the last action, which is always allowed; for two components, the first and the last value."""

    def __init__(self, spec: PolicySpec) -> None:
        self.spec = spec

    def act(self, observation: NDArray[Any], noise: NDArray[np.float32], state: Any) -> Choice:
        rows = len(observation)
        one = isinstance(self.spec.action_space, Discrete)
        action = np.full(rows, 2) if one else np.tile([0, 2], (rows, 1))
        return action, action, None


class FirstLegal:
    """Chooses the first action that the mask allows."""

    def __init__(self, spec: PolicySpec) -> None:
        self.spec = spec

    def act(self, observation: NDArray[Any], noise: NDArray[np.float32], state: Any) -> Choice:
        assert state is None
        mask = self.spec.layout.unpack(observation)[1]
        assert mask is not None
        action = mask.argmax(axis=-1)
        return action, action, None


@pytest.mark.parametrize("way", ["plain", "sync", "async"])
def test_masks_of_parts_survive_the_resets_of_other_slots(way: str) -> None:
    settings: dict[str, Any] = {
        "envs": 3,
        "episodes": 9,
        "steps": 100,
        "vectorization": way,
        "env_workers": 2,
        "loggers": "none",
    }
    training = Training(Config(env_id="tests.environments.unruly:PartsMasked-v0", **settings))
    lengths = {metrics.episode_length for metrics in training}  # the environment raises for a masked action
    training.finish()
    assert training.policy.spec.mask_size == 3
    assert max(lengths) > 5, "episodes end at different times"


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_additional_info_of_vector_environments_is_ignored(mode: AutoresetMode) -> None:
    copies = [partial(gymnasium.make, UNRULY)] * 3
    plain, talkative = (
        played(VectorEnvironments(kind(copies, autoreset_mode=mode))) for kind in (SyncVectorEnv, Talkative)
    )
    for one, another in zip(plain, talkative, strict=True):
        assert_same(one, another)


class Talkative(SyncVectorEnv):
    """Adds values to the info that are not arrays with a row for each copy."""

    def step(self, actions: Any) -> Any:
        *results, info = super().step(actions)
        more = {"frames_per_second": 60.0, "names": ("a",)}
        finals = {"final_info": {**info["final_info"], **more}} if "final_info" in info else {}
        return *results, {**info, **more, **finals}


class Stuck(gymnasium.Env[Any, Any]):
    """Episodes of four steps. The mask after the second step allows no action."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self._steps = 0
        return np.zeros(2, np.float32), {"action_mask": np.ones(3, np.int8)}

    def step(self, action: Any) -> Any:
        self._steps += 1
        mask = np.full(3, self._steps != 2, np.int8)
        return np.zeros(2, np.float32), 1.0, self._steps == 4, False, {"action_mask": mask}


def test_a_mask_that_allows_no_action_is_an_error() -> None:
    envs = PlainEnvironments([Stuck()])
    look = environments.look(envs, 0)
    spec = PolicySpec.by_default(look.observation_space, look.action_space, mask_size=look.mask_size)
    with pytest.raises(EnvironmentStepError, match=r"an action mask is invalid: .*at least one allowed action"):
        Collector(envs, LastOfEach(spec)).collect(1, np.random.SeedSequence(0))


def test_masks_can_be_ignored() -> None:
    assert environments.look(PlainEnvironments([Stuck()]), 0, masks=False).mask_size == 0


class Closing(Scripted):
    """Writes a line to a file when it is closed."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def close(self) -> None:
        with Path(self._path).open("a") as file:
            file.write("closed\n")


gymnasium.register("Closing-v0", Closing)


@pytest.mark.parametrize(
    ("way", "kind"),
    [("plain", "bare"), ("sync", "bare"), ("async", "bare"), ("plain", "watched"), ("plain", "restarting")],
)
def test_every_mode_closes_its_environments(way: str, kind: str, tmp_path: Path) -> None:
    recipe = Recipe(f"{__name__}:Closing-v0", {"path": str(tmp_path / "closed")})

    def make() -> Environments:
        return environments.make(recipe, 2, way, workers=1, timeout=30.0 if kind == "watched" else None)

    envs = RestartingEnvironments(make, 1) if kind == "restarting" else make()
    envs.close()
    assert (tmp_path / "closed").read_text() == 2 * "closed\n"
