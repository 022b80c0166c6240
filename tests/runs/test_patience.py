"""Limits, signals and failures while episodes are played."""

from __future__ import annotations

import csv
import itertools
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

from pgkeras import runs
from pgkeras.environments import trajectory
from pgkeras.errors import ConfigError, EnvironmentStepError
from pgkeras.runs.callbacks import Callback
from pgkeras.runs.loggers.table import CSV
from pgkeras.runs.metrics import EpochMetrics
from pgkeras.runs.training import Training
from pgkeras.settings.config import Config
from tests.runs.small import assert_same_arrays, assert_same_state, run_to_end, small, without_times
from tests.serving.conftest import wait_until

FRAGILE = "tests.environments.fragile:Fragile-v0"


def fragile(kwargs: dict[str, Any], **settings: Any) -> Config:
    small = {"envs": 4, "episodes": 8, "hidden": (4,), "steps": 1000, "loggers": "none"}
    return Config(env_id=FRAGILE, env_kwargs=kwargs, **small | settings)


@pytest.mark.parametrize("length", [0, 10**6])
def test_a_time_limit_ends_an_epoch_whose_episodes_are_endless(tmp_path: Path, length: int) -> None:
    training = Training(fragile({"length": length, "seconds": 0.01}, time_limit=0.5), tmp_path / "run")
    began = time.monotonic()
    assert list(training) == []
    training.finish()
    assert time.monotonic() - began < 20
    assert training.stop_reason == "0.5 s of training are over"
    assert runs.read_summary(tmp_path / "run")["epochs"] == 0


@pytest.mark.parametrize("vectorization", ["plain", "async"])
def test_a_time_limit_ends_a_step_that_does_not_come_back(vectorization: str) -> None:
    # In a process of its own: the alarm is not taken from somebody else who has set it, as pytest has.
    settings = ["hidden=4", "envs=4", "episodes=8", "loggers=none", f"vectorization={vectorization}"]
    command = [sys.executable, "-m", "pgkeras", "train", FRAGILE, "--time-limit", "1", "--no-export"]
    command += [part for pair in ["env_kwargs.hangs_after=5", *settings] for part in ("--set", pair)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert run.returncode == 0, run.stderr
    assert "No finished epoch" in run.stdout
    assert "Stopped: 1 s of training are over." in run.stdout


def test_finished_epochs_are_kept_when_a_later_one_is_dropped(tmp_path: Path) -> None:
    config = fragile({"length": 20, "seconds": 0.001}, time_limit=1.0, steps=10**9)
    training = run_to_end(Training(config, tmp_path / "run"))
    assert len(runs.read_metrics(tmp_path / "run")) == training.epoch > 0
    resumed = Training(config, tmp_path / "run", resume=True)
    assert_same_state(resumed, training)


def test_an_interrupted_run_drops_the_episodes_under_way() -> None:
    training = Training(fragile({"length": 0}))
    training.on_progress = lambda steps, episodes, wanted: training.interrupt()
    assert list(training) == []
    assert training.stop_reason is None


def test_after_an_interruption_no_evaluation_is_begun(tmp_path: Path) -> None:
    class Interrupting(Callback):
        def on_epoch(self, training: Any, metrics: EpochMetrics) -> None:
            if metrics.epoch == 2:
                training.interrupt()  # as a signal while the policy learns

        def on_end(self, training: Any) -> None:
            assert len(training.evaluate(3).returns) == 3  # what somebody asks for is played
            with pytest.raises(ConfigError, match="episodes: expected a whole number of at least 1, got 0"):
                training.evaluate(0)

    run_to_end(Training(fragile({"length": 3}, evaluation_every=1), tmp_path / "run", callbacks=[Interrupting()]))
    assert [line["epoch"] for line in runs.read_metrics(tmp_path / "run")] == [1, 2]
    assert [line["epoch"] for line in runs.read_evaluations(tmp_path / "run")] == [1]


class Signalled(CartPoleEnv):
    """CartPole, which sends a signal at the beginning of the nth batch of episodes from when it is told to."""

    batches = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        if seed is not None and Signalled.batches:
            Signalled.batches -= 1
            if not Signalled.batches:
                signal.raise_signal(signal.SIGUSR1)
        return super().reset(seed=seed, options=options)


gymnasium.register("Signalled-v0", Signalled, max_episode_steps=500)
EVALUATED = {"envs": 1, "episodes": 4, "evaluation_every": 2, "evaluation_episodes": 3, "evaluation_mode": "both"}


def evaluated(**settings: Any) -> Config:
    return small(env_id=f"{__name__}:Signalled-v0", **EVALUATED, **settings)


class Signalling(Callback):
    """Sends a signal while an epoch is closed: before its evaluation, or in one of its batches."""

    def __init__(self, epoch: int, batches: int) -> None:
        self._epoch, self._batches = epoch, batches

    def on_epoch(self, training: Any, metrics: EpochMetrics) -> None:
        if metrics.epoch == self._epoch:
            Signalled.batches = self._batches
            if not self._batches:
                signal.raise_signal(signal.SIGUSR1)


@contextmanager
def interrupted_by_signal(training: Training) -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, lambda *_: training.interrupt())
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """A run with evaluations, of which the best is amidst it. Read only."""
    return run_to_end(Training(evaluated(loggers=("csv",)), tmp_path_factory.mktemp("runs") / "uninterrupted"))


@pytest.mark.parametrize("when", ["amidst the run", "at its end"])
@pytest.mark.parametrize("batches", [0, 1, 2])
def test_an_evaluation_that_a_signal_took_is_made_up_for(
    uninterrupted: Training, tmp_path: Path, when: str, batches: int
) -> None:
    config, run = evaluated(loggers=("csv",)), tmp_path / "run"
    epoch = 4 if when == "amidst the run" else uninterrupted.epoch
    training = Training(config, run, callbacks=[Signalling(epoch, batches)])
    with interrupted_by_signal(training):
        run_to_end(training)
    assert training.epoch == epoch
    assert all(line["epoch"] < epoch for line in runs.read_evaluations(run))
    again = Training(evaluated(loggers=("csv",), checkpoint_seconds=1e6), run, resume=True)
    list(itertools.islice(again, 1))
    del again  # as if killed then: what it has made up for is made up for again
    _same_as(run_to_end(Training(config, run, resume=True)), uninterrupted)


def _same_as(resumed: Training, whole: Training) -> None:
    assert resumed.directory is not None
    assert whole.directory is not None
    run, expected = resumed.directory.path, whole.directory.path
    assert_same_state(resumed, whole)
    assert runs.read_evaluations(run) == runs.read_evaluations(expected)
    assert without_times(runs.read_metrics(run)) == without_times(runs.read_metrics(expected))
    with (run / CSV).open() as one, (expected / CSV).open() as other:
        assert without_times(csv.DictReader(one)) == without_times(csv.DictReader(other))
    assert resumed.best is not None
    assert whole.best is not None
    assert resumed.best[:3] == whole.best[:3]
    for name in ("best", "last"):
        assert_same_arrays(resumed.directory.checkpoints.read(name), whole.directory.checkpoints.read(name))


def test_a_signal_breaks_off_what_is_made_up_for_too(uninterrupted: Training, tmp_path: Path) -> None:
    config, run = evaluated(loggers=("csv",)), tmp_path / "run"
    first = Training(config, run, callbacks=[Signalling(4, 1)])
    with interrupted_by_signal(first):
        run_to_end(first)
    second = Training(config, run, resume=True)
    Signalled.batches = 2
    with interrupted_by_signal(second):
        run_to_end(second)
    assert second.epoch == 4
    _same_as(run_to_end(Training(config, run, resume=True)), uninterrupted)


def test_progress_is_told_within_an_epoch() -> None:
    told: list[tuple[int, int, int]] = []
    training = Training(fragile({"length": 20, "seconds": 0.01}, steps=1))
    training.on_progress = lambda *numbers: told.append(numbers)
    (metrics,) = training
    assert len(told) >= 3
    assert all(a[0] < b[0] and a[1] <= b[1] for a, b in itertools.pairwise(told))
    assert all(steps <= metrics.env_steps and wanted == 8 for steps, _, wanted in told)


def test_what_never_ends_is_warned_about_long_before_it_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    training = Training(fragile({"length": 0}, endless_steps=2000))
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(EnvironmentStepError, match=r"no episode ended within 2,000 steps .*max_episode_steps=N"),
    ):
        list(training)
    assert [record.getMessage() for record in caplog.records if "no episode has ended for 200 steps" in record.message]


def test_an_epoch_that_does_not_fit_into_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trajectory, "available_bytes", lambda: 50_000.0)
    with pytest.raises(EnvironmentStepError, match=r"there is not enough memory to double that .*max_episode_steps=N"):
        list(Training(fragile({"length": 0})))


def test_environments_that_are_killed_are_made_again_and_the_weights_stay_the_same(tmp_path: Path) -> None:
    crash = tmp_path / "crashes"
    settings = {"vectorization": "async", "env_workers": 2, "steps": 1500}
    undisturbed = run_to_end(Training(fragile({"crash": str(crash)}, **settings)))
    crash.write_text("3")
    disturbed = run_to_end(Training(fragile({"crash": str(crash)}, **settings, env_restarts=5)))
    assert not crash.exists()
    assert disturbed.summary()["env_restarts"] == 3
    assert_same_state(disturbed, undisturbed)
    crash.write_text("3")
    with pytest.raises(EnvironmentStepError, match="was killed by SIGKILL"):
        list(Training(fragile({"crash": str(crash)}, **settings, env_restarts=1)))


def test_slow_environments_are_told_of_cores_that_are_idle(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgkeras.runs.sources.available", lambda: 4)
    with caplog.at_level(logging.WARNING):
        run_to_end(Training(fragile({"seconds": 0.002}, steps=1)))
        run_to_end(Training(fragile({"seconds": 0.0}, steps=1)))
    (said,) = [record.getMessage() for record in caplog.records if "vectorization=async" in record.getMessage()]
    assert "is taken on one of 4 cores" in said


def command(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    """A command in a process group of its own."""
    root = Path(__file__).parents[2]
    given = [sys.executable, "-m", "pgkeras", *arguments]
    environment = {"PYTHONPATH": f"{root}:{root}/serving", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    return subprocess.Popen(
        given, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_is_heard_within_an_epoch(tmp_path: Path, number: int) -> None:
    arguments = ("--set", "env_kwargs.length=0", "--set", "env_kwargs.seconds=0.01", "--out", "run")
    process = command(tmp_path, "train", FRAGILE, *arguments)
    assert process.stderr is not None
    said = ""
    for line in process.stderr:  # told every few seconds, without a terminal
        said += line
        if "of 16 episodes" in line:
            break
    process.send_signal(number)
    began = time.monotonic()
    said += process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number, said
    assert time.monotonic() - began < 30
    assert "Stopping: the policy of the last finished epoch is kept" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_signal_to_all_processes_of_a_run_ends_it_well(tmp_path: Path, number: int) -> None:
    """As a terminal sends the one, systemd and Slurm the other: to the workers, too."""
    settings = ("env_kwargs.length=0", "env_kwargs.seconds=0.01", "vectorization=async", "env_workers=2")
    pairs = [part for pair in settings for part in ("--set", pair)]
    process = command(tmp_path, "train", FRAGILE, *pairs, "--out", "run")
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if "of 16 episodes" in line:
            break
    os.killpg(process.pid, number)
    said += process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number, said
    assert "Interrupted. Resume with: pgkeras train --resume run" in said
    wait_until(lambda: not subprocess.run(["pgrep", "-g", str(process.pid)], capture_output=True, check=False).stdout)
