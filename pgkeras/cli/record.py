"""``pgkeras record``."""

from __future__ import annotations

from pathlib import Path

import click

from pgkeras.cli.players import Player, player_options
from pgkeras.client.client import Mode
from pgkeras.settings.recipe import slug

__all__ = ["command"]


@click.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write, .mp4 or .gif. [default: the environment's name, .mp4]",
)
@click.option("--episodes", type=click.IntRange(1), default=1, show_default=True, help="Episodes to film.")
@click.option("--greedy/--sample", default=True, show_default=True, help="Take the most probable action, or draw one.")
@click.option("--fps", type=click.FloatRange(1, 100), help="Frames a second. [default: the environment's own]")
@player_options
def command(player: Player, output: Path | None, episodes: int, greedy: bool, fps: float | None) -> None:
    """Film a policy at play, with its action distribution beside the picture.

    PATH is a version's directory, or a policy's (its newest version is meant); or film a policy behind a server. The
    environment is made as it was for training, and has to render pictures (rgb_array).

    \b
    Examples:
      pgkeras record saved_models/cartpole-v1
      pgkeras record saved_models/cartpole-v1 --sample --episodes 3 --output cartpole.gif
    """
    from pgkeras.evaluation.recording import record

    mode: Mode = "greedy" if greedy else "sample"
    filmed = record(
        player.act(mode),
        player.recipe,
        output or Path(f"{slug(player.recipe.env_id)}.mp4"),
        episodes=episodes,
        seed=player.seed,
        subtitle=f"{player.name}, {'greedy' if greedy else 'sampled'}",
        fps=fps,
    )
    seconds = filmed.frames / filmed.fps
    returns = ", ".join(f"{value:g}" for value in filmed.evaluation.returns)
    click.echo(f"Wrote {filmed.path}: {filmed.frames} frames, {seconds:.1f} s; return {returns}")
