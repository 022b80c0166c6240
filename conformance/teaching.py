"""Tests of simulators that train a policy: other spaces, the loss of another simulator, a restart, and a whole run."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from conformance.clients import Client, environment, playing_environment
from conformance.runner import play_cartpole
from conformance.servers import serve

__all__ = ["LoggedProcess", "Run", "is_refused", "survives", "teach_and_play", "training"]

_SECONDS = 300
NAME = "carts"
_STAYER = "the simulator that stayed"
_ENDLESS = ("--set", "stop_return=1e9", "--set", "steps=1000000000", "--set", "checkpoint_seconds=0")
_PATIENCE = 120  # seconds; on a busy machine, resuming a run takes far longer than a simulator waits by default
_LEAVERS = 10  # several, because one that is killed during a policy update, or between its steps, loses no episode


class LoggedProcess:
    """A process whose standard error goes to a file. A pipe without a reader would fill up and block the process.

    Args:
        command: The command.
        **options: Options of :class:`subprocess.Popen`.
    """

    def __init__(self, command: list[str], **options: Any) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self.process = subprocess.Popen(command, stderr=self._errors, text=True, **options)

    def read_stderr(self) -> str:
        """Returns the standard error so far."""
        return os.pread(self._errors.fileno(), os.fstat(self._errors.fileno()).st_size, 0).decode()

    def close(self) -> None:
        """Kills the process."""
        self.process.kill()
        self.process.communicate()
        self._errors.close()


class Run(NamedTuple):
    """A run that learns from simulators, and the address that it listens on."""

    logged: LoggedProcess
    target: str

    @property
    def process(self) -> subprocess.Popen[str]:
        """The process of the run."""
        return self.logged.process


@contextmanager
def training(directory: Path, *options: str) -> Iterator[Run]:
    """Starts a run with the CartPole preset that listens for simulators. Its files go to a directory."""
    command = ["--listen", "127.0.0.1:0", "--name", NAME, "--preset", "cartpole-v1", "--stop-return", "475"]
    with _listening(directory, *command, "--out", str(directory / "run"), *options) as run:
        yield run


@contextmanager
def _resumed(directory: Path, target: str) -> Iterator[Run]:
    """Resumes a killed run at the same address."""
    with _listening(directory, "--resume", str(directory / "run"), "--listen", target) as run:
        yield run


@contextmanager
def _listening(directory: Path, *options: str) -> Iterator[Run]:
    command = [sys.executable, "-m", "pgkeras", "train", "--export-to", str(directory / "policies"), *options]
    with (directory / "log").open("a") as log, closing(LoggedProcess(command, stdout=log, env=environment())) as logged:
        while "\n" not in logged.read_stderr() and logged.process.poll() is None:
            time.sleep(0.05)
        found = re.match(r"Listening on (\S+:\d+)\. ", logged.read_stderr())
        if found is None:
            raise ValueError(f"the run did not start to listen: {logged.read_stderr()}")
        yield Run(logged, found[1])


def teach_and_play(client: Client, scratch: Path) -> dict[str, float]:
    """Trains a policy with a client's simulator, then plays it.

    Returns:
        The simulator's report of 20 episodes.

    Raises:
        subprocess.SubprocessError: The simulator failed, or did not end.
        ValueError: The run failed.
    """
    # The policy of the best evaluation is exported, which makes the result independent of the last gradient step.
    with training(scratch, "--set", "evaluation_every=3") as run, _teacher(client, run.target) as teacher:
        _ended_well(run.logged, "the run")
        _ended_well(teacher, "the simulator")
    with serve(scratch / "policies", scratch) as server:
        options = ("--policy", NAME, "--episodes", "20")
        return play_cartpole(client.command(client.cartpole), server.target, client.directory, *options)


def is_refused(client: Client, scratch: Path) -> None:
    """Connects a client's simulator to a run that expects other observations.

    Raises:
        ValueError: The simulator does not end with an error that names the field.
    """
    spaces = scratch / "spaces.json"
    box = {"dtype": "DATA_TYPE_FLOAT32", "shape": ["5"], "low": ["-Infinity"], "high": ["Infinity"]}
    discrete = {"n": "2", "start": "0", "dtype": "DATA_TYPE_INT64"}
    spaces.write_text(json.dumps({"observationSpace": {"box": box}, "actionSpace": {"discrete": discrete}}))
    with training(scratch, "--spaces", str(spaces)) as run, _teacher(client, run.target) as teacher:
        status, stderr = teacher.process.wait(_SECONDS), teacher.read_stderr()
        if status == 0 or "simulator.observation_space" not in stderr:
            raise ValueError(f"refused spaces: the simulator ended with {status} and printed {stderr!r}")


def survives(client: Client, scratch: Path) -> None:
    """Kills a second simulator in the middle of its episodes, then the run, and resumes the run.

    Raises:
        ValueError: The other simulator or the run did not continue. The message says which.
    """
    with contextlib.ExitStack() as stack:
        run = stack.enter_context(training(scratch, *_ENDLESS))
        stayer = stack.enter_context(_teacher(client, run.target, "--patience", str(_PATIENCE)))
        metrics = _metrics(scratch)
        going_on = {"the run": run.logged, _STAYER: stayer}
        for _ in range(_LEAVERS):
            with _teacher(client, run.target):
                _wait_for_epochs(3, metrics, going_on)
            _wait_for_epochs(2, metrics, going_on)
            if any(line["episodes_lost"] for line in metrics()):
                break
        else:
            raise ValueError(f"{_LEAVERS} simulators were killed, and no episode was counted as lost")
        run.process.kill()
        run.process.wait()
        again = stack.enter_context(_resumed(scratch, run.target))
        # Only the remaining simulator plays these epochs. teach_and_play tests that a simulator ends without a run.
        _wait_for_epochs(3, metrics, {"the resumed run": again.logged, _STAYER: stayer})
        again.process.terminate()
        again.process.wait(_SECONDS)


@contextmanager
def _teacher(client: Client, target: str, *options: str) -> Iterator[LoggedProcess]:
    command = [*client.command(client.teach), "--target", target, *options]
    surroundings = {"cwd": client.directory, "env": playing_environment(), "stdout": subprocess.DEVNULL}
    with closing(LoggedProcess(command, **surroundings)) as logged:
        yield logged


def _ended_well(logged: LoggedProcess, who: str) -> None:
    if logged.process.wait(_SECONDS):
        raise ValueError(f"{who} failed: {logged.read_stderr()}")


def _metrics(scratch: Path) -> Callable[[], list[dict[str, float]]]:
    path = scratch / "run" / "metrics.jsonl"

    def read() -> list[dict[str, float]]:
        # The last line may be incomplete.
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in lines]

    return read


def _wait_for_epochs(
    count: int, metrics: Callable[[], list[dict[str, float]]], going_on: Mapping[str, LoggedProcess]
) -> None:
    wanted = len(metrics()) + count
    deadline = time.monotonic() + _SECONDS
    while len(metrics()) < wanted:
        for who, logged in going_on.items():
            if (status := logged.process.poll()) is not None:
                raise ValueError(f"{who} has ended with {status}: {logged.read_stderr()}")
        if time.monotonic() > deadline:
            raise ValueError(f"fewer than {count} epochs were played within {_SECONDS} s")
        time.sleep(0.05)
