"""``pgkeras evaluate``."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import Any, get_args

import click

from pgkeras.cli.numbers import counted, shown
from pgkeras.cli.players import Player, player_options
from pgkeras.client.client import Mode

__all__ = ["command"]

_MOST_SLOTS = 32  # more episodes than this are played one after the other
_ENDLESS_STEPS = 100_000
_TELL_SECONDS = 5.0
# Sampled episodes that are played after greedy ones, to compare: no more steps than those took, or than this.
_COMPARED, _FEWEST_STEPS = 10, 20_000


@click.command()
@click.option("--episodes", type=click.IntRange(1), default=20, show_default=True, help="Episodes to play.")
@click.option("--mode", type=click.Choice(get_args(Mode)), default="greedy", show_default=True, help="How to act.")
@click.option(
    "--show-steps",
    type=click.IntRange(0),
    default=0,
    help="Also show the distributions of this many steps of the first episode.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--endless-steps",
    type=click.IntRange(10),
    default=_ENDLESS_STEPS,
    show_default=True,
    help="Steps without the end of an episode after which to give up.",
)
@player_options
def command(player: Player, episodes: int, mode: Mode, show_steps: int, as_json: bool, endless_steps: int) -> None:
    """Play episodes with an exported policy, or with one behind a server, and report their returns.

    PATH is a version's directory, or a policy's (its newest version is meant). The environment is made as it was for
    training, with the same keyword arguments, wrappers and step limit, unless --env names another. Needs gymnasium, and
    for a policy on disk LiteRT (extra serve) or TensorFlow.

    \b
    Examples:
      pgkeras evaluate saved_models/cartpole-v1
      pgkeras evaluate 127.0.0.1:50051 --episodes 100 --mode sample --json
      pgkeras evaluate --target 127.0.0.1:50051 --label stable
    """
    from pgkeras import environments, evaluation

    first = evaluation.FirstSteps(player.act(mode), show_steps)
    envs = environments.make(player.recipe, int(min(episodes, _MOST_SLOTS, player.most_rows)), "plain")
    watch = _Progress(episodes)
    result = evaluation.evaluate(first, envs, episodes, player.seed, watch, endless_steps)
    env_id = player.recipe.env_id
    steps = first.steps[: int(result.lengths[0])]  # after the first episode its slot rests, or plays another
    if as_json:
        loaded = "tensorflow" in sys.modules
        report = {"target": player.target, "env_id": env_id, "mode": mode, "seed": player.seed}
        figures = {**report, "tensorflow_loaded": loaded, **result.to_json(), "first_steps": steps}
        click.echo(json.dumps(figures))
        return
    low, high = map(shown, result.interval)
    click.echo(
        f"{env_id}, {counted(episodes, 'episode')}, {mode}: mean return {shown(result.mean)}, "
        f"standard deviation {shown(result.std)}"
    )
    length = shown(float(result.lengths.mean()))
    click.echo(f"95 % interval of the mean: {low} to {high}; mean length {length} steps")
    if mode == "greedy":
        budget = _Budget(int(result.lengths.sum()))
        with contextlib.suppress(_SpentError):
            sampled = evaluation.evaluate(player.act("sample"), envs, min(episodes, _COMPARED), player.seed, budget)
            if sampled.interval[0] > result.interval[1]:
                click.echo(
                    f"Sampled actions do better: mean return {shown(sampled.mean)} over {len(sampled.returns)} "
                    "episodes. The most probable action may lead round in circles; play with --mode sample."
                )
    for i, step in enumerate(steps):
        click.echo(f"step {i}: " + "  ".join(f"{name} {_rounded(value)}" for name, value in step.items()))


class _SpentError(Exception):
    """A comparison has taken as many steps as it may."""


class _Budget:
    """Ends episodes when they have taken so many steps together."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def __call__(self, steps: int, episodes: int) -> None:
        if steps > max(self._steps, _FEWEST_STEPS):
            raise _SpentError


class _Progress:
    """Says on standard error, every few seconds, how far the episodes are."""

    def __init__(self, episodes: int) -> None:
        self._episodes = episodes
        self._due = time.monotonic() + _TELL_SECONDS

    def __call__(self, steps: int, episodes: int) -> None:
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + _TELL_SECONDS
            click.echo(f"{episodes} of {self._episodes} episodes, {steps:,} steps", err=True)


def _rounded(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_rounded(element) for element in value) + "]"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
