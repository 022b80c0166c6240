"""What is legal, and yet ended runs badly."""

from __future__ import annotations

import copy
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import pgkeras
from pgkeras import runs
from pgkeras.backend import keras, tf
from pgkeras.bundle import bundle
from pgkeras.engines import load
from pgkeras.engines.litert import LiteRTEngine
from pgkeras.errors import (
    ConfigError,
    EnvironmentSetupError,
    EnvironmentStepError,
    ExportError,
    RunError,
    UnsupportedSpaceError,
)
from pgkeras.runs.training import Training
from pgkeras.settings.config import Config
from pgkeras.settings.recipe import check_kwargs
from pgkeras.spaces import Box, observations_from_gymnasium
from pgkeras.spaces.images import is_image
from tests.runs.small import run_to_end, small

ROOT = Path(__file__).parents[2]


class Shown(gymnasium.Env[Any, Any]):
    """Shows samples of a space; action 1 pays."""

    shows: Any = spaces.Box(-1, 1, (2,))
    action_space: Any = spaces.Discrete(2)

    def __init__(self) -> None:
        self.observation_space = copy.deepcopy(self.shows)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self._steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        self._steps += 1
        return self.observation_space.sample(), float(np.sum(action)), self._steps == 5, False, {}


def trained(
    monkeypatch: pytest.MonkeyPatch,
    directory: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    **attributes: Any,
) -> Training:
    kind = type("Legal", (Shown,), attributes)
    monkeypatch.setitem(gymnasium.registry, "Legal-v0", gymnasium.envs.registration.EnvSpec("Legal-v0", kind))
    few = {"envs": 2, "episodes": 4, "steps": 60, "hidden": (8,), "loggers": "none"}
    return run_to_end(Training(Config(env_id="Legal-v0", **few, **(settings or {})), directory))


SHOWN = {
    "stacked frames": spaces.Box(0, 255, (4, 12, 10, 3), np.uint8),
    "voxels": spaces.Box(0, 255, (8, 8, 8, 3), np.uint8),
    "flattened image": spaces.Box(0, 255, (300,), np.uint8),
    "slashes": spaces.Dict({"walker/joints_pos": spaces.Box(-1, 1, (3,)), "walker joints-pos": spaces.Discrete(3)}),
    "letters": spaces.Dict({"größe": spaces.Box(-1, 1, (2,)), "": spaces.Discrete(2), "a-b": spaces.MultiBinary(2)}),
    "camera of floats": spaces.Box(0, 255, (12, 12, 3), np.float32),
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.slow if case in ("flattened image", "voxels") else ()) for case in SHOWN],
)
def test_what_was_learnt_can_be_exported(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = trained(monkeypatch, shows=SHOWN[case])
    exported = training.export(tmp_path)
    found = bundle.open_bundle(exported.path)
    assert found.flatbuffer is not None
    value = found.spec.observation_space.batched(_plain(SHOWN[case].sample()))[0]
    row = found.spec.layout.pack(value)
    inputs = {"observation": row, "noise": np.full((1, found.spec.noise_size), 0.3, np.float32)}
    answers = [load(found, engine).act(inputs) for engine in ("litert", "tensorflow")]
    np.testing.assert_allclose(answers[0]["probabilities"], answers[1]["probabilities"], atol=1e-5)


def _plain(value: Any) -> Any:
    return {key: np.asarray(part) for key, part in value.items()} if isinstance(value, dict) else value


def test_where_litert_answers_otherwise_the_saved_model_is_published_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    training = trained(monkeypatch)
    act = LiteRTEngine.act
    monkeypatch.setattr(
        LiteRTEngine,
        "act",
        lambda self, *given: {name: array + array.dtype.type(1) for name, array in act(self, *given).items()},
    )
    with caplog.at_level(logging.WARNING):
        exported = training.export(tmp_path)
    assert "exported without a LiteRT flatbuffer: LiteRT disagrees" in caplog.text
    assert bundle.open_bundle(exported.path).flatbuffer is None


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Box(0, 9, (2,), np.uint64), "its dtype is uint64"),
        (spaces.Box(0, 9, (2,), np.uint32), "its dtype is uint32"),
        (spaces.Dict({1: spaces.Discrete(2)}), "key 1 is not a string"),  # type: ignore[dict-item]
    ],
)
def test_spaces_without_messages_are_refused_before_training(space: Any, message: str) -> None:
    with pytest.raises(UnsupportedSpaceError, match=message):
        observations_from_gymnasium(space)


@pytest.mark.parametrize(
    ("box", "image"),
    [
        (Box(np.zeros((9, 9, 3)), np.full((9, 9, 3), 255.0), np.dtype(np.uint8)), True),
        (Box(np.zeros((9, 9, 3)), np.full((9, 9, 3), 255.0), np.dtype(np.float32)), True),
        (Box(np.zeros((9, 9)), np.ones((9, 9)), np.dtype(np.float32)), True),
        (Box(np.full((5, 5), -np.inf), np.full((5, 5), np.inf), np.dtype(np.float32)), False),
        (Box(np.full((5, 5), -7.0), np.full((5, 5), 7.0), np.dtype(np.float32)), False),
        (Box(np.zeros((5, 5)), np.full((5, 5), 9.0), np.dtype(np.int64)), False),
    ],
)
def test_only_pixels_are_images(box: Box, image: bool) -> None:
    assert is_image(box) is image


def test_large_bounded_numbers_are_scaled_into_their_range(monkeypatch: pytest.MonkeyPatch) -> None:
    low, high = np.array([0.0, -1.0, 400.0, -np.inf]), np.array([255.0, 1.0, 600.0, np.inf])
    shown = spaces.Box(low.astype(np.float32), high.astype(np.float32))
    training = trained(monkeypatch, shows=shown)
    said = "numbers scaled by their range, normalized where unbounded, MLP 8"
    assert training.policy.architecture == said
    x = np.array([[0.0, 0.5, 500.0, 7.0], [255.0, -1.0, 600.0, -7.0]], np.float32)
    scaled = np.array([[-1.0, 0.5, 0.0, 7.0], [1.0, -1.0, 1.0, -7.0]], np.float32)
    kernel, bias, head, head_bias, mean, scale = training.policy.weights()
    scaled[:, 3] = (x[:, 3] - mean[3]) * scale[3]
    expected = np.tanh(scaled @ kernel + bias) @ head + head_bias
    np.testing.assert_allclose(training.policy.parameters(x), expected, rtol=1e-5, atol=1e-6)


def test_sys_exit_passes_for_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(self: Any, action: Any) -> Any:
        sys.exit(0)

    with pytest.raises(EnvironmentSetupError, match=r"failed at step: SystemExit: 0 \(.*in leave\)"):
        trained(monkeypatch, step=leave)
    calls: list[int] = []

    def later(self: Any, action: Any) -> Any:
        calls.append(1)
        return leave(self, action) if len(calls) > 8 else Shown.step(self, action)

    with pytest.raises(EnvironmentStepError, match="SystemExit: 0"):
        trained(monkeypatch, step=later)


def test_a_close_that_raises_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: Any) -> None:
        raise OSError("no")

    trained(monkeypatch, tmp_path / "run", close=broken)
    assert "Legal-v0 failed at close: OSError: no" in caplog.text
    assert runs.read_summary(tmp_path / "run")["epochs"] > 0


def test_a_change_of_directory_moves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()

    def step(self: Any, action: Any) -> Any:
        os.chdir(tmp_path / "elsewhere")
        return Shown.step(self, action)

    trained(monkeypatch, Path("run"), step=step)
    assert runs.read_summary(tmp_path / "run")["epochs"] > 0


def test_shared_generators_follow_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(self: Any, action: Any) -> Any:
        _, _, *rest = Shown.step(self, action)
        return self.observation_space.sample(), float(np.random.random()), *rest

    first, second = (trained(monkeypatch, step=step) for _ in range(2))
    for a, b in zip(first.policy.weights(), second.policy.weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_is_written_by_one_process_at_a_time(tmp_path: Path) -> None:
    training = Training(small(steps=200), tmp_path / "run")
    code = (
        "import sys; from pathlib import Path; from pgkeras.runs import RunDirectory\n"
        "RunDirectory(Path(sys.argv[1]), 1, resume=True)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/serving"}
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    for _ in range(2):  # the second time after this process has tried to have it twice
        second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert "another process writes to this run" in second.stderr
        with pytest.raises(RunError, match=r"or another Training of this one: end it, or call its finish\(\)"):
            Training(small(steps=200), tmp_path / "run", resume=True)
    run_to_end(training)
    third = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert third.returncode == 0, third.stderr


def test_a_run_that_cannot_be_set_up_holds_nothing(tmp_path: Path) -> None:
    run_to_end(Training(small(steps=200), tmp_path / "run"))
    with pytest.raises(RunError) as kept:  # as a notebook keeps it
        Training(small(steps=200), tmp_path / "run", resume=True, checkpoint="12345")
    assert "12345" in str(kept.value)
    run_to_end(Training(small(steps=200), tmp_path / "run", resume=True))


def test_a_run_that_nobody_has_any_more_holds_nothing(tmp_path: Path) -> None:
    assert next(iter(Training(small(steps=10**9), tmp_path / "run"))).epoch == 1
    run_to_end(Training(small(steps=200), tmp_path / "run", resume=True))


def test_names_that_nobody_chose_are_chosen_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = set()
    for _ in range(5):
        chosen.add(runs.default_directory("CartPole-v1", 0))
        time.sleep(0.002)
    assert len(chosen) == 5
    assert all(path.name.startswith("cartpole-v1-seed0-") for path in chosen)
    assert runs.default_directory("CartPole-v1", None).name.startswith("cartpole-v1-seeds-")


@pytest.mark.parametrize("value", [{1: 2}, (1, 2), {"a": (1,)}])
def test_what_settings_do_not_keep_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="would be read back as"):
        check_kwargs({"costs": value})


def test_an_unwritable_run_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").mkdir()
    with pytest.raises(RunError, match="cannot write to run directory"):
        Training(small(), tmp_path / "run")


class Unlike(keras.layers.Layer):
    """Puts out something else each time that it is traced."""

    times = 0

    def call(self, x: Any) -> Any:
        Unlike.times += 1
        return x * float(Unlike.times)


class Secretive(keras.layers.Layer):
    """Has a variable that TensorFlow does not know of."""

    hidden: ClassVar[list[Any]] = []

    def call(self, x: Any) -> Any:
        if not Secretive.hidden:
            Secretive.hidden.append(tf.Variable(1.0))
        return x * Secretive.hidden[0]


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Unlike, "SavedModel disagrees with the Keras model on"),
        (Secretive, "TensorFlow cannot save the network of policy .*: Tried to export a function which references"),
    ],
)
def test_a_network_that_cannot_be_exported_is_found_out_before_it_is_trained(layer: Any, reason: str) -> None:
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), layer()])
    with pytest.raises(ExportError, match=reason):
        Training(small(), network=network)


def test_numbers_beyond_float32_are_told_of_as_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnvironmentStepError, match=r"observation is not finite .*: it holds inf; .*float32.*3\.4e38"):
        trained(monkeypatch, shows=Fixed([0.0, 1e300], np.float64))


def stuck(space: spaces.Space[Any], value: Any) -> spaces.Space[Any]:
    """The space with one sample only, which may lie outside."""
    space.sample = lambda *_, **__: value  # type: ignore[method-assign]
    return space


BESIDE = spaces.Dict({"place": spaces.Box(-1, 1, (2,)), "room": spaces.Discrete(600, start=1)})
PLACED = {"place": np.zeros(2, np.float32), "room": 0}


@pytest.mark.parametrize("engine", ["litert", "tensorflow"])
@pytest.mark.parametrize(
    ("space", "value", "message"),
    [
        (
            spaces.Discrete(600),
            600,
            "observation is outside its space .*: it holds 600, expected integers from 0 to 599",
        ),
        (spaces.Discrete(5), 7, "observation is outside its space .*: it holds 7, expected integers from 0 to 4"),
        (spaces.Discrete(5), -1, "observation is outside its space .*: it holds -1, expected integers from 0 to 4"),
        (spaces.MultiDiscrete([600, 3]), np.array([600, 0]), "it holds 600, expected integers from 0 to 599"),
        (spaces.MultiDiscrete([[2], [600]]), np.array([[0], [-1]]), "it holds -1, expected integers from 0 to 599"),
        (spaces.MultiBinary(2), np.array([0, 2], np.int8), "it holds 2, expected integers from 0 to 1"),
        (BESIDE, PLACED, "observation room is outside its space .*: it holds 0, expected integers from 1 to 600"),
    ],
)
def test_integers_outside_their_space_are_named(
    space: spaces.Space[Any], value: Any, message: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EnvironmentStepError, match=f"Legal-v0: .*{message}"):
        trained(monkeypatch, shows=stuck(copy.deepcopy(space), value), settings={"act_engine": engine})


def test_integers_within_their_space_are_learnt_from(monkeypatch: pytest.MonkeyPatch) -> None:
    for space, value in (
        (spaces.Discrete(600, start=-5), -5),
        (spaces.MultiDiscrete([600, 3], start=[1, 0]), np.array([600, 2])),
    ):
        assert trained(monkeypatch, shows=stuck(space, value)).env_steps >= 60


class Fixed(spaces.Box):
    """A box without bounds of which every sample is the same."""

    def __init__(self, value: list[Any], dtype: Any) -> None:
        least = -np.inf if np.dtype(dtype).kind == "f" else np.iinfo(dtype).min
        most = np.inf if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
        super().__init__(least, most, (len(value),), dtype)
        self._value = np.array(value, dtype)

    def sample(self, *_: Any, **__: Any) -> Any:
        return self._value


def test_integers_that_float32_rounds_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trained(monkeypatch, shows=Fixed([1_700_000_000_000_000_000, 1], np.int64))
    assert (
        "integers such as 1700000000000000000; networks compute in float32, which is exact up to 16777216"
        in caplog.text
    )
    caplog.clear()
    trained(monkeypatch, shows=Fixed([1000, 1], np.int64))
    assert "float32" not in caplog.text


@pytest.mark.slow
def test_very_many_actions_are_exported_and_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Shown, "step", lambda self, action: (self.observation_space.sample(), 1.0, True, False, {}))
    training = trained(monkeypatch, action_space=spaces.Discrete(2_500_000))
    assert "the policy has 22,500,024 weights" in caplog.text
    assert bundle.open_bundle(training.export(tmp_path).path).spec.action_space.n == 2_500_000


def test_a_path_that_tensorflow_cannot_open_is_named_at_once(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pgkeras",
        "train",
        "CartPole-v1",
        "--time-limit",
        "1",
        "--out",
        tmp_path / "r\xf6n",
    ]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=100)
    assert run.returncode == 1
    assert "not valid in this process's encoding, ascii; set PYTHONUTF8=1" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_network_of_float64_layers_is_refused_before_training() -> None:
    layers = [keras.Input((4,)), keras.layers.Dense(8, "tanh", dtype="float64", name="wide"), keras.layers.Dense(6)]
    with pytest.raises(UnsupportedSpaceError, match=r"weights that are not float32: .*wide/kernel, .*wide/bias;"):
        pgkeras.train("CartPole-v1", steps=300, network=keras.Sequential(layers))
