"""``pgkeras quickstart``."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from pgkeras.cli import text, train
from pgkeras.cli.numbers import shown
from pgkeras.cli.targets import root_option
from pgkeras.errors import PgkerasError
from pgkeras.runs import directory as runs
from pgkeras.settings import config

__all__ = ["command"]

_ENV_ID = "CartPole-v1"
_EPISODES = 20
_STEPS_SHOWN = 3
_TIMEOUT = 60.0  # seconds for the server to start, and to stop


@click.command()
@root_option("--export-to")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the training.")
def command(root: Path, seed: int) -> None:
    """Train CartPole-v1, export the policy, serve it, and play it from another process.

    Takes about ten seconds. Exits with 1 if a stage fails.
    """
    from pgkeras.cli.native_output import quiet

    _stage(1, f"Train a policy on {_ENV_ID} with REINFORCE")
    directory = runs.default_directory(_ENV_ID, seed)
    training, interrupted_by = train.run(config.resolve(_ENV_ID, overrides={"seed": seed}), directory)
    if interrupted_by is not None:
        raise SystemExit(128 + interrupted_by)
    click.echo(
        f"Learned to balance for {training.mean_return_100:.0f} of 500 steps on average over the last 100 episodes, "
        f"from {training.episodes:,} episodes ({training.env_steps:,} steps) in {training.seconds:.1f} s."
    )
    if not training.summary()["solved"]:
        raise PgkerasError(f"{_ENV_ID} was not solved with seed {seed}: expected a return of {training.stop_return}")

    _stage(2, "Export it as a SavedModel")
    with quiet():
        bundle = training.export(root)
    click.echo(f"{bundle.path}: {sum(bundle.files.values()) / 1024:.0f} KiB, SavedModel and LiteRT agree.")

    _stage(3, "Serve it over gRPC")
    with _server(root) as (address, ready_line):
        click.echo(ready_line)
        _stage(4, f"Play {_EPISODES} episodes from another process, which does not load TensorFlow")
        played = _play(address, bundle.name)
    low, high = played["interval95"]
    click.echo(f"Mean return {shown(played['mean'])} (95 % interval {shown(low)} to {shown(high)}), acting greedily.")
    click.echo("The first steps of the first episode, with the probability of each action:")
    for i, step in enumerate(played["first_steps"]):
        click.echo(f"step {i}, observation [{', '.join(f'{x:+.3f}' for x in step['observation'])}]")
        click.echo("\n".join(text.bars(np.array(step["probabilities"]), 0, step["action"])))

    click.echo(f"\nLearning curve: {directory / runs.CURVE}")
    click.echo("\nTry next:")
    program = _program()
    click.echo(f"  {program} serve {root}")
    click.echo(f"  {program} act --target 127.0.0.1:50051 --policy {bundle.name} --observation '[0.0, 0.1, 0.0, -0.1]'")
    click.echo(f"  {program} train Acrobot-v1")


def _program() -> str:
    """Returns the command that runs this program, as a user would type it."""
    if shutil.which("pgkeras"):
        return "pgkeras"
    started = Path(sys.argv[0])
    return "python -m pgkeras" if started.name == "__main__.py" else os.path.relpath(started)


def _stage(number: int, what: str) -> None:
    click.secho(f"\n{number}/4  {what}", bold=True)


@contextlib.contextmanager
def _server(root: Path) -> Iterator[tuple[str, str]]:
    """Runs a server in a separate process, and yields its address and its ready line."""
    with tempfile.TemporaryDirectory() as scratch:
        port_file, log = Path(scratch, "port"), Path(scratch, "log")
        arguments = [sys.executable, "-m", "pgkeras", "serve", str(root), "--port", "0", "--port-file", str(port_file)]
        with log.open("wb") as stderr:
            server = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=stderr, text=True)
        try:
            deadline = time.monotonic() + _TIMEOUT
            while not port_file.exists():
                if server.poll() is not None or time.monotonic() > deadline:
                    raise PgkerasError(f"the server did not start:\n{log.read_text()}")
                time.sleep(0.02)
            assert server.stdout is not None
            yield f"127.0.0.1:{port_file.read_text().strip()}", server.stdout.readline().strip()
            server.send_signal(signal.SIGTERM)
            if (code := server.wait(_TIMEOUT)) != 0:
                raise PgkerasError(f"the server exited with {code} when it was stopped:\n{log.read_text()}")
        finally:
            if server.poll() is None:
                server.kill()
            server.wait()


def _play(address: str, policy: str) -> dict[str, Any]:
    arguments = ["evaluate", address, "--policy", policy, "--episodes", str(_EPISODES), "--json"]
    process = subprocess.run(
        [sys.executable, "-m", "pgkeras", *arguments, "--show-steps", str(_STEPS_SHOWN)],
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        raise PgkerasError(f"the client failed:\n{process.stderr}")
    played: dict[str, Any] = json.loads(process.stdout)
    if played["tensorflow_loaded"]:
        raise PgkerasError("the client loaded TensorFlow, although it must work without it")
    return played
