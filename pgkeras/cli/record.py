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
    help="File to write, .mp4 or .gif. [default: ENVIRONMENT.mp4]",
)
@click.option("--episodes", type=click.IntRange(1), default=1, show_default=True, help="Number of episodes to record.")
@click.option("--greedy/--sample", default=True, show_default=True, help="Most probable or sampled actions.")
@click.option("--fps", type=click.FloatRange(1, 100), help="Frames per second. [default: the environment's]")
@player_options
def command(player: Player, output: Path | None, episodes: int, greedy: bool, fps: float | None) -> None:
    """Record a video of a policy, with its action distribution next to the picture.

    PATH is the directory of a version, or of a policy (its newest version is used). Give HOST:PORT for a policy on a
    server. The environment is created as for training, and must support render_mode="rgb_array".

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
