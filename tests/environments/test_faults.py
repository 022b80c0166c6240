"""Errors of environments that crash, hang or return invalid values name environment, step and field; runs survive."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from pgkeras import environments
from pgkeras.environments import Recipe, processes
from pgkeras.environments.collect import Collector
from pgkeras.environments.watchdog import _within
from pgkeras.errors import EnvironmentSetupError, EnvironmentStepError
from pgkeras.runs import directory as runs
from pgkeras.runs.checkpoints import Checkpoints
from pgkeras.settings.recipe import WrapperCall
from tests.cli.conftest import here
from tests.environments.test_collect import ScriptedActor, assert_same

UNRULY = "tests.environments.unruly:Unruly-v0"


def collect(
    fault: str,
    way: str,
    timeout: float | None = None,
    at: int = 3,
    episodes: int = 6,
    wrappers: tuple[WrapperCall, ...] = (),
) -> str:
    """Returns the error message of a fault, and checks that the environments close in time."""
    envs = environments.make(Recipe(UNRULY, {"fault": fault, "at": at}, wrappers), 2, way, workers=2, timeout=timeout)
    try:
        with pytest.raises(EnvironmentStepError) as caught:
            Collector(envs, ScriptedActor(envs, by_noise=True)).collect(episodes, np.random.SeedSequence(0))
    finally:
        began = time.monotonic()
        envs.close()
        assert time.monotonic() - began < 30
    return str(caught.value)


@pytest.mark.parametrize("way", ["plain", "sync", "async"])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("raise", "Unruly-v0 failed at step 2: OSError: the simulator is gone"),
        ("nan observation", "Unruly-v0: observation is not finite at step 3 of episode 0"),
        ("nan reward", "Unruly-v0: reward is not finite at step 2 of episode 0"),
        ("rewards", "Unruly-v0 failed at step 2: "),
        ("shape", "Unruly-v0 failed at step 2: "),
        ("text", "Unruly-v0 failed at step 2: "),
        ("short at truncation", "Unruly-v0 failed at step "),
    ],
)
def test_invalid_results_are_named_with_the_step(fault: str, message: str, way: str) -> None:
    assert collect(fault, way).startswith(message)


@pytest.mark.parametrize("way", ["plain", "async"])
@pytest.mark.parametrize(("fault", "field"), [("rewards", "reward"), ("shape", "observation"), ("text", "observation")])
def test_errors_name_the_field(fault: str, field: str, way: str) -> None:
    assert field in collect(fault, way)


@pytest.mark.parametrize("way", ["plain", "sync", "async"])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("nan observation", "Unruly-v0: observation seen.all is not finite at step 3 of episode 0"),
        ("nan at truncation", "Unruly-v0: final observation seen.all is not finite after step "),
    ],
)
def test_errors_name_the_part_of_the_observation(fault: str, message: str, way: str) -> None:
    assert collect(fault, way, wrappers=(WrapperCall("tests.environments.unruly:Parted"),)).startswith(message)


@pytest.mark.parametrize("way", ["plain", "sync", "async"])
def test_the_final_observation_of_a_truncated_episode_is_checked(way: str) -> None:
    message = collect("nan at truncation", way)
    assert message.startswith("Unruly-v0: final observation is not finite after step ")
    assert "which was truncated" in message


def test_terminal_observations_are_not_checked() -> None:
    envs = environments.make(Recipe(UNRULY, {"fault": "nan at termination"}), 2, "plain")
    trajectory = Collector(envs, ScriptedActor(envs)).collect(8, np.random.SeedSequence(0))
    assert np.isnan(trajectory.final_observations[trajectory.terminated]).all()
    assert trajectory.terminated.any()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("killed", r"Unruly-v0 failed at step 2: the worker process of environment \d was killed by SIGKILL"),
        ("exits", r"Unruly-v0 failed at step 2: the worker process of environment \d exited with 3"),
    ],
)
def test_a_worker_that_dies_is_named(fault: str, message: str) -> None:
    assert re.fullmatch(message, collect(fault, "async"))  # either of two, which fail in the same way


def test_results_that_cannot_be_pickled_are_named() -> None:
    message = collect("unsendable reward", "async")
    assert message == collect("unsendable reward", "plain")
    assert "expected a number as reward, or an array of one element, got Unsendable()" in message
    message = collect("unsendable observation", "async")
    assert message.startswith("Unruly-v0 failed at step 2: the result cannot be sent by the worker process: TypeError")
    assert message.endswith("; use vectorization=plain")


def test_a_constructor_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_START_SECONDS", 1.0)
    before = set(psutil.Process().children())
    with pytest.raises(
        EnvironmentSetupError, match=r"Unruly-v0: the environment cannot be created: no response within 4 s \(env"
    ):
        environments.make(Recipe(UNRULY, {"fault": "making hangs"}), 3, "async", workers=2, timeout=1.0)
    left = [child for child in set(psutil.Process().children()) - before if child.status() != psutil.STATUS_ZOMBIE]
    assert not [child for child in left if "spawn_main" in " ".join(child.cmdline())]


@pytest.mark.parametrize("way", ["plain", "sync", "async"])
@pytest.mark.parametrize("fault", ["sleeps", "spins", "swallows"])
def test_a_step_that_hangs_is_interrupted(fault: str, way: str) -> None:
    began = time.monotonic()
    message = collect(fault, way, timeout=1.5)
    assert message == "Unruly-v0 failed at step 2: no response within 1.5 s (env_timeout_seconds)"
    assert time.monotonic() - began >= 1.5


@pytest.mark.parametrize("way", ["plain", "async"])
def test_a_reset_that_hangs_is_interrupted(way: str) -> None:
    message = collect("reset hangs", way, timeout=1.5)
    assert message == "Unruly-v0 failed at reset: no response within 1.5 s (env_timeout_seconds)"


@pytest.mark.parametrize("after", [1, 2, 7])
def test_stale_results_of_an_interrupted_step_are_discarded(after: int) -> None:
    """A timeout or Ctrl-C leaves unread results in the pipes."""
    expected, got = (environments.make(UNRULY, 4, way, workers=2) for way in ("plain", "async"))
    try:
        played = [Collector(e, ScriptedActor(e)).collect(5, np.random.SeedSequence(3)) for e in (expected, got)]
        assert_same(*played)
        calls = []

        def interrupted_wait(*arguments: Any) -> Any:
            calls.append(arguments)
            if len(calls) == after:
                raise KeyboardInterrupt
            return wait(*arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pgkeras.environments.processes.wait", interrupted_wait)
            with pytest.raises(KeyboardInterrupt):
                Collector(got, ScriptedActor(got)).collect(5, np.random.SeedSequence(4))
        again = [Collector(e, ScriptedActor(e)).collect(5, np.random.SeedSequence(3)) for e in (expected, got)]
        assert_same(*again)
    finally:
        expected.close()
        got.close()


def test_closed_processes_raise_an_error() -> None:
    envs = environments.make(UNRULY, 2, "async", workers=1)
    envs.close()
    with pytest.raises(EnvironmentStepError, match="failed at reset: the worker processes are closed"):
        Collector(envs, ScriptedActor(envs)).collect(2, np.random.SeedSequence(0))


def test_a_program_exits_without_closing_its_processes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import weakref\n"
        "class Early: pass\n"
        "early = Early()\n"
        "weakref.finalize(early, print, 'finalizers run after the end of multiprocessing')\n"
        "from pgkeras import environments\n"
        "if __name__ == '__main__':\n"
        f"    envs = environments.make('{UNRULY}', 2, 'async', workers=2)\n"
    )
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "after the end" in ended.stdout


@pytest.mark.parametrize("way", ["plain", "async"])
def test_steps_within_the_limit_succeed(way: str) -> None:
    envs = environments.make(UNRULY, 2, way, timeout=30)
    assert Collector(envs, ScriptedActor(envs)).collect(6, np.random.SeedSequence(0)).steps >= 30
    envs.close()


def test_another_timer_continues() -> None:
    fired: list[float] = []
    handler = signal.signal(signal.SIGALRM, lambda *_: fired.append(time.monotonic()))
    other = signal.setitimer(signal.ITIMER_REAL, 2.0)
    try:
        envs = environments.make(Recipe(UNRULY, {"fault": "sleeps", "at": 20}), 1, "plain", timeout=0.5)
        with pytest.raises(EnvironmentStepError, match=r"no response within 0\.5 s"):
            Collector(envs, ScriptedActor(envs)).collect(9, np.random.SeedSequence(0))
        assert not fired
        assert 0.5 < signal.getitimer(signal.ITIMER_REAL)[0] < 1.6
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        time.sleep(0.2)
        assert len(fired) == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, *other)
        signal.signal(signal.SIGALRM, handler)


def test_another_alarm_that_becomes_due_fires_afterwards() -> None:
    fired: list[float] = []
    handler = signal.signal(signal.SIGALRM, lambda *_: fired.append(time.monotonic()))
    other = signal.setitimer(signal.ITIMER_REAL, 0.005)
    try:
        _within(100.0, time.sleep, 0.02)
        deadline = time.monotonic() + 10
        while not fired:
            assert time.monotonic() < deadline, "the alarm is lost"
            time.sleep(0.001)
    finally:
        signal.setitimer(signal.ITIMER_REAL, *other)
        signal.signal(signal.SIGALRM, handler)


def test_without_alarms_only_processes_support_a_limit() -> None:
    outcome: list[Any] = []

    def make() -> None:
        try:
            environments.make(UNRULY, 1, "plain", timeout=1)
        except EnvironmentSetupError as error:
            outcome.append(str(error))
        outcome.append(collect("sleeps", "async", timeout=1))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join(60)
    assert "use vectorization=async" in outcome[0]
    assert "no response within 1 s" in outcome[1]


@pytest.mark.parametrize(
    ("fault", "settings", "message"),
    [
        ("sleeps", ["env_timeout_seconds=1"], "no response within 1 s"),
        ("killed", ["vectorization=async", "env_workers=1"], "was killed by SIGKILL"),
    ],
)
def test_a_run_keeps_its_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, settings: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    # An epoch is 4 episodes of 5 to 9 steps, so the fault at step 300 comes after at least 8 epochs.
    pairs = ["envs=1", "episodes=4", "hidden=4", "checkpoint_seconds=0", *settings]
    pairs += [f"env_kwargs.fault={fault}", "env_kwargs.at=300"]
    arguments = ["train", UNRULY, "--steps", "2000", "--out", "run", "--no-export"]
    result = here(*arguments, *(a for pair in pairs for a in ("--set", pair)))
    assert result.exit_code == 1
    assert re.search(rf"Unruly-v0.*{message}", result.stderr)
    assert "Traceback" not in result.stderr
    assert result.stderr.endswith("\nResume with: pgkeras train --resume run\n")
    epochs = runs.read_metrics(tmp_path / "run")
    assert len(epochs) >= 7
    assert not [entry for entry in (tmp_path / "run").iterdir() if entry.name.startswith(".")]
    if fault == "killed":  # one case is enough: without the fault, the run continues after its last whole epoch
        arguments = ["train", "--resume", "run", "--steps", "400", "--no-export", "--set", "env_kwargs.fault=none"]
        resumed = here(*arguments)
        assert resumed.exit_code == 0, resumed.output
        more = runs.read_metrics(tmp_path / "run")
        assert len(more) > len(epochs)
        assert more[: len(epochs)] == epochs
    else:
        checkpoint = Checkpoints(tmp_path / "run", 1).read()
        assert checkpoint["counters"][0] == len(epochs)
