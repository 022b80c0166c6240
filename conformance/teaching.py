"""A client's simulator teaches a policy CartPole: declared, refused, left alone by others and by the run."""

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

__all__ = ["Run", "Spoken", "is_refused", "survives", "teach_and_play", "training"]

_SECONDS = 300
NAME = "carts"
_STAYER = "the simulator that stayed"
_ENDLESS = ("--set", "stop_return=1e9", "--set", "steps=1000000000", "--set", "checkpoint_seconds=0")
_PATIENCE = 120  # seconds: on a busy machine, a run that is resumed takes far longer than a simulator waits by itself
_LEAVERS = 10  # one that is killed while the policy is improved, or while others have their turn, loses nothing


class Spoken:
    """A process, and what it says on standard error: in a file, as a pipe that nobody reads fills up and stops it.

    Args:
        command: What it runs.
        **options: As those of :class:`subprocess.Popen`.
    """

    def __init__(self, command: list[str], **options: Any) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self.process = subprocess.Popen(command, stderr=self._errors, text=True, **options)

    def said(self) -> str:
        """All of it so far."""
        return os.pread(self._errors.fileno(), os.fstat(self._errors.fileno()).st_size, 0).decode()

    def close(self) -> None:
        """Kills the process."""
        self.process.kill()
        self.process.communicate()
        self._errors.close()


class Run(NamedTuple):
    """A run that learns from simulators, and where it listens."""

    spoken: Spoken
    target: str

    @property
    def process(self) -> subprocess.Popen[str]:
        """Its process."""
        return self.spoken.process


@contextmanager
def training(directory: Path, *options: str) -> Iterator[Run]:
    """A run of the preset for CartPole that listens, with its files in a directory."""
    command = ["--listen", "127.0.0.1:0", "--name", NAME, "--preset", "cartpole-v1", "--stop-return", "475"]
    with _listening(directory, *command, "--out", str(directory / "run"), *options) as run:
        yield run


@contextmanager
def _resumed(directory: Path, target: str) -> Iterator[Run]:
    """The same run, after it was killed, at the same address."""
    with _listening(directory, "--resume", str(directory / "run"), "--listen", target) as run:
        yield run


@contextmanager
def _listening(directory: Path, *options: str) -> Iterator[Run]:
    command = [sys.executable, "-m", "pgkeras", "train", "--export-to", str(directory / "policies"), *options]
    with (directory / "log").open("a") as log, closing(Spoken(command, stdout=log, env=environment())) as spoken:
        while "\n" not in spoken.said() and spoken.process.poll() is None:
            time.sleep(0.05)
        found = re.match(r"Listening on (\S+:\d+)\. ", spoken.said())
        if found is None:
            raise ValueError(f"the run does not listen: {spoken.said()}")
        yield Run(spoken, found[1])


def teach_and_play(client: Client, scratch: Path) -> dict[str, float]:
    """Has a client's simulator teach, then play the policy that came of it.

    Returns:
        The simulator's report of 20 episodes.

    Raises:
        subprocess.SubprocessError: The simulator failed, or did not end.
        ValueError: The run failed.
    """
    # The best of the evaluations is exported, so that what is played does not hang on the last step.
    with training(scratch, "--set", "evaluation_every=3") as run, _teacher(client, run.target) as teacher:
        _ended_well(run.spoken, "the run")
        _ended_well(teacher, "the simulator")
    with serve(scratch / "policies", scratch) as server:
        options = ("--policy", NAME, "--episodes", "20")
        return play_cartpole(client.command(client.cartpole), server.target, client.directory, *options)


def is_refused(client: Client, scratch: Path) -> None:
    """Has a client's simulator declare itself to a run that wants other observations.

    Raises:
        ValueError: It does not end with an error that names the field.
    """
    spaces = scratch / "spaces.json"
    box = {"dtype": "DATA_TYPE_FLOAT32", "shape": ["5"], "low": ["-Infinity"], "high": ["Infinity"]}
    discrete = {"n": "2", "start": "0", "dtype": "DATA_TYPE_INT64"}
    spaces.write_text(json.dumps({"observationSpace": {"box": box}, "actionSpace": {"discrete": discrete}}))
    with training(scratch, "--spaces", str(spaces)) as run, _teacher(client, run.target) as teacher:
        status, said = teacher.process.wait(_SECONDS), teacher.said()
        if status == 0 or "simulator.observation_space" not in said:
            raise ValueError(f"refused spaces: it ended with {status} and said {said!r}")


def survives(client: Client, scratch: Path) -> None:
    """Kills a second simulator in the middle of its episodes, then the run, and has the run resumed.

    Raises:
        ValueError: The other simulator did not go on, or the run did not; the message says which.
    """
    with contextlib.ExitStack() as stack:
        run = stack.enter_context(training(scratch, *_ENDLESS))
        stayer = stack.enter_context(_teacher(client, run.target, "--patience", str(_PATIENCE)))
        metrics = _metrics(scratch)
        going_on = {"the run": run.spoken, _STAYER: stayer}
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
        # Nobody else plays these. That a simulator ends once nobody answers is seen where it teaches a whole policy.
        _wait_for_epochs(3, metrics, {"the resumed run": again.spoken, _STAYER: stayer})
        again.process.terminate()
        again.process.wait(_SECONDS)


@contextmanager
def _teacher(client: Client, target: str, *options: str) -> Iterator[Spoken]:
    command = [*client.command(client.teach), "--target", target, *options]
    surroundings = {"cwd": client.directory, "env": playing_environment(), "stdout": subprocess.DEVNULL}
    with closing(Spoken(command, **surroundings)) as spoken:
        yield spoken


def _ended_well(spoken: Spoken, who: str) -> None:
    if spoken.process.wait(_SECONDS):
        raise ValueError(f"{who} failed: {spoken.said()}")


def _metrics(scratch: Path) -> Callable[[], list[dict[str, float]]]:
    path = scratch / "run" / "metrics.jsonl"

    def read() -> list[dict[str, float]]:
        # The last line may be half written.
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in lines]

    return read


def _wait_for_epochs(count: int, metrics: Callable[[], list[dict[str, float]]], going_on: Mapping[str, Spoken]) -> None:
    wanted = len(metrics()) + count
    deadline = time.monotonic() + _SECONDS
    while len(metrics()) < wanted:
        for who, spoken in going_on.items():
            if (status := spoken.process.poll()) is not None:
                raise ValueError(f"{who} has ended with {status}: {spoken.said()}")
        if time.monotonic() > deadline:
            raise ValueError(f"no {count} epochs were played within {_SECONDS} s")
        time.sleep(0.05)
