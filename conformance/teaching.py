"""A client's simulator teaches a policy CartPole, and plays what it has taught."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conformance.clients import Client, environment, playing_environment
from conformance.runner import play_cartpole
from conformance.servers import serve

__all__ = ["Run", "teach_and_play", "training"]

_SECONDS = 300
NAME = "carts"


class Run:
    """A run that learns from simulators.

    Args:
        process: Its process.
        target: Where it listens.
    """

    def __init__(self, process: subprocess.Popen[str], target: str) -> None:
        self.process = process
        self.target = target


@contextmanager
def training(directory: Path, *options: str) -> Iterator[Run]:
    """A run of the preset for CartPole that listens, with its files in a directory."""
    command = [sys.executable, "-m", "pgkeras", "train", "--listen", "127.0.0.1:0", "--name", NAME]
    command += ["--preset", "cartpole-v1", "--stop-return", "475", "--out", str(directory / "run")]
    command += ["--export-to", str(directory / "policies"), *options]
    with (directory / "log").open("w+") as log:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=log, text=True, env=environment())
        assert process.stderr is not None
        try:
            found = re.match(r"Listening on (\S+:\d+)\. ", process.stderr.readline())
            if found is None:
                raise ValueError(f"the run does not listen: {process.stderr.read()}")
            yield Run(process, found[1])
        finally:
            process.kill()
            process.communicate()


def teach_and_play(client: Client, scratch: Path) -> dict[str, float]:
    """Has a client's simulator teach, then play the policy that came of it.

    Returns:
        The simulator's report of 20 episodes.

    Raises:
        subprocess.SubprocessError: The simulator failed, or did not end.
        ValueError: The run failed.
    """
    # The best of the evaluations is exported, so that what is played does not hang on the last step.
    with training(scratch, "--set", "evaluation_every=3") as run:
        command = [*client.command(client.teach), "--target", run.target]
        subprocess.run(
            command,
            cwd=client.directory,
            env=playing_environment(),
            check=True,
            timeout=_SECONDS,
            stdout=subprocess.PIPE,
        )
        if run.process.wait(_SECONDS):
            raise ValueError(f"the run failed: {run.process.communicate()[1]}")
    with serve(scratch / "policies", scratch) as server:
        options = ("--policy", NAME, "--episodes", "20")
        return play_cartpole(client.command(client.cartpole), server.target, client.directory, *options)
