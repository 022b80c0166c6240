"""pgkeras tune, and presets in files."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib

import numpy as np
import pytest

from pgkeras.cli.tune import _has_ended, _write_preset
from pgkeras.cli.tuning import Tuning
from pgkeras.errors import ConfigError, RunError
from pgkeras.settings.config import Config, assignments, read_preset, resolve
from pgkeras.settings.effect import check_effect, check_effect_in
from pgkeras.settings.search import Choices, Logarithmic, search_space, settings_of
from pgkeras.spaces import Box, Discrete
from tests.cli.conftest import here
from tests.cli.test_comparing import pgkeras

BOX = Box(np.zeros(2), np.ones(2), np.dtype(np.float32))
SMALL = ["CartPole-v1", "--steps", "1500", "--set", "hidden=8", "--set", "episodes=4", "--set", "envs=4"]


class Extreme:
    """Suggests the first or the last of everything."""

    def __init__(self, last):
        self.last = last

    def suggest_categorical(self, name, choices):
        return choices[-1 if self.last else 0]

    def suggest_float(self, name, low, high, *, log):
        assert log
        return high if self.last else low


@pytest.mark.parametrize("space", [BOX, Discrete(3)], ids=str)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("optimizer", ["adam", "natural"])
def test_whatever_is_searched_is_a_setting_in_its_range_that_has_an_effect(space, last, optimizer):
    began = {"optimizer": optimizer, "target_kl": 0.01}
    dimensions = search_space(Config(env_id="Test-v0", **began), BOX, space)
    drawn = settings_of(Extreme(last), dimensions)
    assert set(drawn) == set(dimensions)
    values = assignments(f"{name}={value}" for name, value in drawn.items())
    config = Config(env_id="Test-v0", **began | values)
    check_effect(config, values)
    check_effect_in(config, values, BOX, space)
    for name, dimension in dimensions.items():
        if isinstance(dimension, Logarithmic):
            expected = dimension.high if last else dimension.low
            assert getattr(config, name) == pytest.approx(1 - expected if dimension.from_one else expected, rel=1e-2)
        elif isinstance(dimension, Choices):
            for value in dimension.values:
                Config(env_id="Test-v0", **began | assignments([f"{name}={value}"]))
    assert config.envs == config.episodes
    assert ("initial_log_std" in dimensions) is (space is BOX)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tuning")
    search = ["tune", *SMALL, "--seeds", "0", "--jobs", "2", "--out", "found"]
    first = pgkeras(directory, *search, "--trials", "2", "--confirm", "0")
    assert first.returncode == 0, first.stderr
    second = pgkeras(directory, *search, "--trials", "4", "--confirm", "1")
    assert second.returncode == 0, second.stderr
    return directory, first, second


def trials(finished):
    return {int(n): text for n, text in re.findall(r"^trial (\d+): (.*)$", finished.stderr, re.MULTILINE)}


def test_a_search_goes_on_where_it_was(tuned):
    _, first, second = tuned
    assert set(trials(first)) == {0, 1}
    assert set(trials(second)) == {2, 3}
    assert "the initial settings" in trials(first)[0]
    tried = [text.partition("(")[2] for text in (*trials(first).values(), *trials(second).values())]
    assert len(set(tried)) == 4, "a search that goes on does not begin anew"
    for settings in (trials(first)[1], *trials(second).values()):
        assert "learning_rate=" in settings
        assert "hidden=" not in settings, "what is fixed is not varied"


def test_the_best_trial_is_a_preset_that_trains(tuned):
    directory, _first, second = tuned
    scores = {}
    for number in range(4):
        (run,) = (directory / "found" / f"trial-{number}").iterdir()
        *_, last = (run / "metrics.jsonl").read_text().splitlines()
        scores[number] = json.loads(last)["mean_return_100"]
    best = max(scores, key=scores.get)
    assert f"Best: trial {best} with" in second.stdout
    text = (directory / "found" / "best.toml").read_text()
    config = json.loads(next((directory / "found" / f"trial-{best}").glob("*/config.json")).read_text())["config"]
    found = resolve("CartPole-v1", str(directory / "found" / "best.toml")).to_json()
    for name in ("learning_rate", "gamma", "episodes", "hidden", "baseline", "target_kl"):
        assert found[name] == config[name]
    assert "steps" not in tomllib.loads(text), "how long to train, it does not say"
    short = ["--steps", "500", "--no-export", "--out", "by-preset"]
    trained = pgkeras(directory, "train", "CartPole-v1", "--preset", "found/best.toml", *short)
    assert trained.returncode == 0, trained.stderr
    assert json.loads((directory / "by-preset" / "config.json").read_text())["config"]["gamma"] == config["gamma"]


def test_wrong_input(tuned, tmp_path):
    directory = tuned[0]
    refused = pgkeras(directory, "tune", "Acrobot-v1", "--out", "found", "--trials", "1")
    assert "found holds a search for CartPole-v1" in refused.stderr
    other = ["tune", *SMALL, "--seeds", "0", "--out", "found", "--trials", "9"]
    for changed, said in (
        (["--set", "gamma=0.5"], "found holds a search with gamma=0.995, not 0.5; give another --out"),
        (["--time-limit", "9"], "found holds a search with time_limit=None, not 9.0"),
        (["--seeds", "0-1"], r"found holds a search with seeds=[0], not [0, 1]"),
    ):
        refused = pgkeras(directory, *other, *changed)
        assert said in " ".join(refused.stderr.split()), refused.stderr
        assert refused.returncode == 1
    refused = pgkeras(directory, "tune", "CartPoll-v1", "--trials", "1")
    assert "unknown environment 'CartPoll-v1'; did you mean CartPole-v1?" in refused.stderr
    failing = ["tune", "CartPole-v1", "--set", "activation=nonsense", "--seeds", "0", "--trials", "1", "--steps", "100"]
    refused = pgkeras(tmp_path, *failing)
    assert refused.returncode == 1
    assert "trial 0: failed: activation 'nonsense': Keras has no activation" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_presets_in_files(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('base = "mujoco"\ngamma = 0.5\ntarget_kl = "none"\n')
    config = resolve("Test-v0", str(file))
    assert (config.gamma, config.target_kl, config.batch_steps) == (0.5, None, read_preset("mujoco")["batch_steps"])
    with pytest.raises(ConfigError, match=r"cannot read the preset .*other\.toml: No such file"):
        resolve("Test-v0", str(tmp_path / "other.toml"))
    file.write_text("gama = 0.5\n")
    with pytest.raises(ConfigError, match=r"mine\.toml: gama: .*did you mean gamma"):
        resolve("Test-v0", str(file))
    file.write_text("gamma 0.5\n")
    with pytest.raises(ConfigError, match=r"mine\.toml is no TOML"):
        resolve("Test-v0", str(file))


def test_ctrl_c_ends_a_search_and_its_runs(tmp_path):
    command = [sys.executable, "-m", "pgkeras", "tune", *SMALL, "--steps", "100000000", "--out", "found", "--jobs", "1"]
    # As in the background of a script, where SIGINT is ignored at first.
    command = ["/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh", *command]
    options = {"cwd": tmp_path, "stderr": subprocess.PIPE, "env": dict(os.environ), "start_new_session": True}
    with subprocess.Popen(command, text=True, **options) as search:
        metrics = tmp_path / "found" / "trial-0" / "seed-0" / "metrics.jsonl"
        deadline = time.monotonic() + 60
        while not (metrics.exists() and metrics.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        search.send_signal(signal.SIGINT)
        assert search.wait(60) == 130
    deadline = time.monotonic() + 20
    while subprocess.run(["pgrep", "-s", str(search.pid)], capture_output=True, check=False).stdout:
        assert time.monotonic() < deadline, "somebody has not ended"
        time.sleep(0.1)


def test_every_setting_is_written_as_toml(tmp_path):
    kwargs = {"g": 9.81, "cave": "höhle 😀", "nested": {"limits": [1, 2.5], "on": True}}
    began = resolve("Pendulum-v1", "default", {"steps": 1000})
    best = Config.from_json({**began.to_json(), "env_kwargs": kwargs, "target_kl": 0.01})
    _write_preset(tmp_path / "best.toml", began, best, "Pendulum-v1")
    again = resolve("Pendulum-v1", str(tmp_path / "best.toml"), {"steps": 1000})
    assert (again.env_kwargs, again.target_kl) == (kwargs, 0.01)


def test_a_null_that_the_found_preset_could_not_have_is_told_before_the_search(tmp_path):
    told = pgkeras(tmp_path, "tune", "FrozenLake-v1", "--set", "env_kwargs.map_name=null", "--trials", "1")
    assert told.returncode == 1
    assert "env_kwargs: tune writes settings as TOML, which has no null; got {'map_name': None}" in told.stderr
    assert not (tmp_path / "tuning").exists()


def test_a_run_that_was_broken_off_has_not_ended(tmp_path):
    assert not _has_ended(tmp_path)
    for reason, ended in ((None, False), ("1,000 steps are done", True)):
        (tmp_path / "summary.json").write_text(json.dumps({"stop_reason": reason}))
        assert _has_ended(tmp_path) is ended


def test_what_changes_nothing_is_not_searched():
    image = Box(np.zeros((8, 8, 1)), np.full((8, 8, 1), 255.0), np.dtype(np.uint8))

    def searched(observed, actions, **settings):
        return set(search_space(Config(env_id="Test-v0", **settings), observed, actions))

    everything = searched(BOX, BOX)
    assert searched(image, BOX) == everything - {"hidden"}
    assert searched(image, BOX, network="mlp") == everything
    assert searched(Discrete(3), BOX) == everything - {"normalize_observations"}
    assert searched(BOX, BOX, distribution="kumaraswamy") == everything - {"initial_log_std"}


def test_as_many_environments_as_episodes_unless_they_are_given():
    dimensions = search_space(resolve("CartPole-v1", "default"), BOX, Discrete(3))
    assert settings_of(Extreme(True), dimensions)["envs"] == "32"
    assert "envs" not in settings_of(Extreme(True), {k: v for k, v in dimensions.items() if k != "envs"})
    assert "envs" not in settings_of(Extreme(True), {k: v for k, v in dimensions.items() if k != "episodes"})


def test_trials_may_have_environments_in_processes_and_a_search_is_one_process(tmp_path):
    search = ["tune", *SMALL, "--set", "vectorization=async", "--seeds", "0", "--out", "found"]
    started = pgkeras_process(tmp_path, *search)
    metrics = tmp_path / "found" / "trial-0" / "seed-0" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and metrics.read_text()):
        assert time.monotonic() < deadline, started.poll()
        time.sleep(0.1)
    other = pgkeras(tmp_path, *search)
    assert other.returncode == 1
    assert "Error: another search is running in found; wait for its end" in other.stderr
    started.send_signal(signal.SIGINT)
    assert started.wait(60) == 130


def pgkeras_process(directory, *arguments):
    return subprocess.Popen([sys.executable, "-m", "pgkeras", *arguments], cwd=directory, stderr=subprocess.DEVNULL)


def test_trials_that_were_broken_off_are_none_of_those_that_are_asked_for(tmp_path, monkeypatch):
    def search(trials):
        config = resolve("CartPole-v1", "default")
        tuning = Tuning(config, search_space(config, BOX, Discrete(3)), [0], tmp_path, 1)
        told = []
        tuning.search(trials, None, told.append)
        return tuning, told

    class Stopped:
        """A run during which the search is stopped."""

        exitcode = None

        def is_alive(self):
            return self.exitcode is None

        def join(self, *_):
            tuning._stopped = True

        def kill(self):
            self.exitcode = -9

    tuning, _ = search(0)
    tuning._study.ask()  # a process that was killed has left it
    monkeypatch.setattr("pgkeras.cli.tuning.start", lambda *_: Stopped())
    assert tuning._try().state == "failed: it was interrupted"
    tuning._lock.close()
    monkeypatch.setattr("pgkeras.cli.tuning.Tuning._run", lambda *_: 1.0)
    _, told = search(2)
    assert [outcome.score for outcome in told] == [1.0, 1.0]
    assert [bool(outcome.settings) for outcome in told] == [False, True], "the initial settings are tried again"


class SearchedError(Exception):
    pass


def begun(monkeypatch, *arguments):
    """The settings that a search begins with."""

    def begin(config, *_):
        raise SearchedError(config)

    monkeypatch.setattr("pgkeras.cli.tuning.Tuning", begin)
    with pytest.raises(SearchedError) as raised:
        here("tune", "CartPole-v1", *arguments)
    return raised.value.args[0]


def test_how_long_trials_are_may_be_set_like_any_setting(monkeypatch):
    for arguments, steps, time_limit in (
        ((), 100_000, None),
        (("--steps", 70, "--time-limit", 3), 70, 3.0),
        (("--set", "steps=50", "--set", "time_limit=2"), 50, 2.0),
    ):
        config = begun(monkeypatch, *arguments)
        assert (config.steps, config.time_limit) == (steps, time_limit)
    refused = here("tune", "CartPole-v1", "--set", "seed=3")
    assert (refused.exit_code, "--seeds sets the seeds of all trials" in refused.stderr) == (2, True)


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"cannot create directory .*file/found: .*; give another --out"):
        Tuning(resolve("CartPole-v1", "default"), {}, [0], tmp_path / "file" / "found", 1)
