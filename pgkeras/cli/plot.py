"""``pgkeras plot``."""

from __future__ import annotations

import glob as glob_
from pathlib import Path
from typing import Any

import click

__all__ = ["command"]


@click.command()
@click.argument("run_directories", metavar="RUN...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--by",
    default="env_id",
    show_default=True,
    metavar="SETTING",
    help='Runs that agree in this setting are one curve: their interquartile mean; "run" for a curve each.',
)
@click.option(
    "--group",
    "groups",
    nargs=2,
    multiple=True,
    metavar="LABEL PATTERN",
    help="One curve of all run directories that match, such as: --group value 'runs/value-*'",
)
@click.option("--metric", default="mean_return_100", show_default=True, help="Which metric to draw.")
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

    One run is drawn in detail. Of several, every environment has a panel of its own, and in it runs that belong
    together are one curve: the interquartile mean over seeds, with its 95 % bootstrap interval.

    \b
    Examples:
      pgkeras plot runs/cartpole-v1-seed0-20260101-120000-000
      pgkeras plot runs/* --out curves.png
      pgkeras plot runs/* --by baseline
    """
    from pgkeras.runs import directory as runs
    from pgkeras.runs import plotting

    chosen: list[tuple[str | None, Path]] = [(None, run) for run in run_directories]
    for label, pattern in groups:
        matched = sorted(Path(found) for found in glob_.glob(pattern))  # noqa: PTH207 - it may be absolute
        if not matched:
            raise click.UsageError(f"--group {label}: nothing matches {pattern!r}")
        chosen += [(label, run) for run in matched]
    if not chosen:
        raise click.UsageError("give a run directory, as in: pgkeras plot runs/*")
    if len(chosen) == 1 and metric == plotting.METRIC:
        run = chosen[0][1]
        config = runs.read_config(run)
        metrics, evaluations = runs.read_metrics(run), runs.read_evaluations(run)
        title = title or f"{config['config']['env_id']}, seed {config['config']['seed']}"
        plotting.plot_learning_curve(out, metrics, title, config.get("stop_return"), evaluations)
    else:
        plotting.plot_panels(out, _panels(chosen, by), title or "", metric)
    click.echo(f"Wrote {out}")


def _panels(chosen: list[tuple[str | None, Path]], by: str) -> list[Any]:
    """Runs by environment, and in it by label or setting, in the order in which they were given."""
    from pgkeras.runs import directory as runs
    from pgkeras.runs import plotting

    panels: dict[str, dict[str, list[Any]]] = {}
    thresholds: dict[str, set[float | None]] = {}
    names = [run.resolve().name for _, run in chosen]
    for label, run in chosen:
        config = runs.read_config(run)
        settings = config["config"]
        if by == "run":
            own = run.resolve().name if len(set(names)) == len(names) else str(run)
        elif by in settings:
            own = "" if by == "env_id" else f"{by}={settings[by]}"
        else:
            raise click.UsageError(f"--by {by}: {run} has no such setting; there is {', '.join(sorted(settings))}")
        curves = panels.setdefault(settings["env_id"], {})
        curves.setdefault(label or own, []).append(runs.read_metrics(run))
        thresholds.setdefault(settings["env_id"], set()).add(config.get("stop_return"))
    return [
        plotting.Panel(
            env_id.rpartition(":")[2],
            [plotting.Curve(label, metrics) for label, metrics in curves.items()],
            next(iter(thresholds[env_id])) if len(thresholds[env_id]) == 1 else None,
        )
        for env_id, curves in panels.items()
    ]
