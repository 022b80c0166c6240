"""``pgkeras evaluate``."""

from __future__ import annotations

import json
import sys
from typing import Any, get_args

import click

from pgkeras.cli.players import Player, player_options
from pgkeras.client.client import Mode

__all__ = ["command"]

_MOST_SLOTS = 32  # more episodes than this are played one after the other


@click.command()
@click.option("--episodes", type=click.IntRange(1), default=20, show_default=True, help="Episodes to play.")
@click.option("--mode", type=click.Choice(get_args(Mode)), default="greedy", show_default=True, help="How to act.")
@click.option("--show-steps", type=click.IntRange(0), default=0, help="Also show this many steps' distributions.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@player_options
def command(player: Player, episodes: int, mode: Mode, show_steps: int, as_json: bool) -> None:
    """Play episodes with an exported policy, or with one behind a server, and report their returns.

    PATH is a version's directory, or a policy's (its newest version is meant). The environment is made as it was for
    training, with the same keyword arguments, wrappers and step limit, unless --env names another. Needs neither
    TensorFlow nor the training extra beyond gymnasium.

    \b
    Examples:
      pgkeras evaluate saved_models/cartpole-v1
      pgkeras evaluate 127.0.0.1:50051 --episodes 100 --mode sample --json
      pgkeras evaluate --target 127.0.0.1:50051 --label stable
    """
    from pgkeras import environments
    from pgkeras.evaluation import evaluation

    first = evaluation.FirstSteps(player.act(mode), show_steps)
    envs = environments.make(player.recipe, min(episodes, _MOST_SLOTS), "plain")
    result = evaluation.evaluate(first, envs, episodes, player.seed)
    env_id = player.recipe.env_id
    if as_json:
        loaded = "tensorflow" in sys.modules
        report = {"target": player.target, "env_id": env_id, "mode": mode, "seed": player.seed}
        figures = {**report, "tensorflow_loaded": loaded, **result.to_json(), "first_steps": first.steps}
        click.echo(json.dumps(figures))
        return
    low, high = result.interval
    click.echo(
        f"{env_id}, {episodes} episodes, {mode}: mean return {result.mean:.1f}, standard deviation {result.std:.1f}"
    )
    click.echo(f"95 % interval of the mean: {low:.1f} to {high:.1f}; mean length {result.lengths.mean():.1f} steps")
    for i, step in enumerate(first.steps):
        click.echo(f"step {i}: " + "  ".join(f"{name} {_rounded(value)}" for name, value in step.items()))


def _rounded(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_rounded(element) for element in value) + "]"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
