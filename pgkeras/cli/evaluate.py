"""``pgkeras evaluate``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from pgkeras import bundle
from pgkeras.cli.connection import connection_options
from pgkeras.cli.targets import is_address
from pgkeras.client import Mode, PolicyClient
from pgkeras.engines import EngineName, load
from pgkeras.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from pgkeras.evaluation import EngineActor, RemoteActor

__all__ = ["command"]

_MOST_SLOTS = 32  # more episodes than this are played one after the other


@click.command()
@click.argument("target", metavar="PATH|HOST:PORT")
@click.option("--env", "env_id", help="Environment to play. [default: the one that the policy was trained on]")
@click.option("--episodes", type=click.IntRange(1), default=20, show_default=True, help="Episodes to play.")
@click.option("--mode", type=click.Choice(get_args(Mode)), default="greedy", show_default=True, help="How to act.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of environments and actions.")
@click.option("--policy", default="", help="Which policy of a server; may be left out when there is only one.")
@click.option("--policy-version", type=click.IntRange(1), help="Which version of it; the newest by default.")
@click.option(
    "--engine",
    type=click.Choice(get_args(EngineName)),
    default="auto",
    show_default=True,
    help="What computes a policy on disk.",
)
@click.option("--show-steps", type=click.IntRange(0), default=0, help="Also show this many steps' distributions.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@connection_options
def command(
    target: str,
    env_id: str | None,
    episodes: int,
    mode: Mode,
    seed: int,
    policy: str,
    policy_version: int | None,
    engine: EngineName,
    show_steps: int,
    as_json: bool,
    connection: dict[str, Any],
) -> None:
    """Play episodes with an exported policy, or with one behind a server, and report their returns.

    PATH is a version's directory, or a policy's (its newest version is meant). Needs neither TensorFlow nor the
    training extra beyond gymnasium.

    \b
    Examples:
      pgkeras evaluate saved_models/cartpole-v1
      pgkeras evaluate 127.0.0.1:50051 --episodes 100 --mode sample --json
    """
    try:
        from pgkeras import environments, evaluation
    except ModuleNotFoundError as error:
        raise MissingExtraError((error.name or "a package").partition(".")[0], "train", "play episodes") from error
    actor, provenance = (
        _remote(PolicyClient(target, policy, policy_version, **connection), mode)
        if is_address(target)
        else _local(target, engine, mode)
    )
    env_id = env_id or provenance.get("env_id")
    if env_id is None:
        raise ConfigError(f"{target} does not say which environment it was trained on: give --env")
    first = evaluation.FirstSteps(actor, show_steps)
    envs = environments.make(env_id, min(episodes, _MOST_SLOTS), "plain")
    result = evaluation.evaluate(first, envs, episodes, seed)
    if as_json:
        loaded = "tensorflow" in sys.modules
        report = {"target": target, "env_id": env_id, "mode": mode, "seed": seed, "tensorflow_loaded": loaded}
        click.echo(json.dumps({**report, **result.to_json(), "first_steps": first.steps}))
        return
    low, high = result.interval
    click.echo(
        f"{env_id}, {episodes} episodes, {mode}: mean return {result.mean:.1f}, standard deviation {result.std:.1f}"
    )
    click.echo(f"95 % interval of the mean: {low:.1f} to {high:.1f}; mean length {result.lengths.mean():.1f} steps")
    for i, step in enumerate(first.steps):
        click.echo(f"step {i}: " + "  ".join(f"{name} {_rounded(value)}" for name, value in step.items()))


def _remote(client: PolicyClient, mode: Mode) -> tuple[RemoteActor, dict[str, Any]]:
    from pgkeras.evaluation import RemoteActor

    return RemoteActor(client, mode), client.describe().provenance


def _local(target: str, engine: EngineName, mode: Mode) -> tuple[EngineActor, dict[str, Any]]:
    from pgkeras.cli.quiet import quiet
    from pgkeras.evaluation import EngineActor

    found = bundle.open_bundle(bundle.find(Path(target)))
    with quiet():
        return EngineActor(found.spec, load(found, engine), mode), found.provenance


def _rounded(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_rounded(element) for element in value) + "]"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
