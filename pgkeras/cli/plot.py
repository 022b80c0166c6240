"""``pgkeras plot``."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command()
@click.argument("run_directories", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("learning_curves.png"),
    show_default=True,
    help="PNG file to write.",
)
@click.option("--title", help="Title. [default: the runs' environments]")
def command(run_directories: tuple[Path, ...], out: Path, title: str | None) -> None:
    """Draw the learning curves of one or several run directories into a PNG file.

    \b
    Example:
      pgkeras plot runs/* --out curves.png
    """
    from pgkeras import plotting, runs

    configs = [runs.read_config(run) for run in run_directories]
    names = [run.resolve().name for run in run_directories]
    labels = names if len(set(names)) == len(names) else map(str, run_directories)
    metrics = {label: runs.read_metrics(run) for label, run in zip(labels, run_directories, strict=True)}
    title = title or ", ".join(dict.fromkeys(config["config"]["env_id"] for config in configs))
    thresholds = {config.get("stop_return") for config in configs}
    plotting.plot_learning_curves(out, metrics, title, thresholds.pop() if len(thresholds) == 1 else None)
    click.echo(f"Wrote {out}")
