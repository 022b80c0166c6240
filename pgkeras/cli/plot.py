"""``pgkeras plot``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgkeras.cli.run_options import groups_of, run_options
from pgkeras.runs.counters import MEAN_RETURN

if TYPE_CHECKING:
    from pgkeras.runs.groups import GroupedRun

__all__ = ["command"]


@click.command()
@run_options
@click.option("--metric", default=MEAN_RETURN, show_default=True, help="Metric to plot.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("learning_curves.png"),
    show_default=True,
    help="PNG file to write.",
)
@click.option("--title", help="Title of the picture.")
def command(
    run_directories: tuple[Path, ...],
    by: str,
    groups: tuple[tuple[str, str], ...],
    metric: str,
    out: Path,
    title: str | None,
) -> None:
    """Draw the learning curves of one or several run directories into a PNG file.

    A single run is drawn in detail. For several runs, each environment gets a panel, and each group of runs is one
    curve: the interquartile mean over seeds with its 95 % bootstrap interval. Runs without a finished epoch are
    skipped.

    \b
    Examples:
      pgkeras plot runs/cartpole-v1-seed0-20260101-120000-000
      pgkeras plot runs/* --out curves.png
      pgkeras plot runs/* --by baseline
    """
    from pgkeras.runs import directory as runs
    from pgkeras.runs import plotting

    grouped = groups_of(run_directories, groups, by)
    every = [run for of_env in grouped.values() for of_group in of_env.values() for run in of_group]
    if len(every) == 1 and metric == MEAN_RETURN:
        (run,) = every
        metrics, evaluations = runs.read_metrics(run.path), runs.read_evaluations(run.path)
        title = title or f"{run.config['config']['env_id']}, seed {run.config['config']['seed']}"
        plotting.plot_learning_curve(out, metrics, title, run.config.get("stop_return"), evaluations)
    else:
        plotting.plot_panels(out, _panels(grouped), title or "", metric)
    click.echo(f"Wrote {out}")


def _panels(grouped: dict[str, dict[str, list[GroupedRun]]]) -> list[Any]:
    """Returns a panel per environment, with a curve per group."""
    from pgkeras.runs import directory as runs
    from pgkeras.runs import plotting

    return [
        plotting.Panel(
            env_id.rpartition(":")[2],
            [
                plotting.Curve(label, {str(run.path): runs.read_metrics(run.path) for run in of_group})
                for label, of_group in of_env.items()
            ],
            _threshold([run for of_group in of_env.values() for run in of_group]),
        )
        for env_id, of_env in grouped.items()
    ]


def _threshold(runs: list[GroupedRun]) -> float | None:
    """Returns the runs' stop return if all have the same, otherwise None."""
    found = {run.config.get("stop_return") for run in runs}
    return next(iter(found)) if len(found) == 1 else None
