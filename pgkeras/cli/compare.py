"""``pgkeras compare``."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from pgkeras.cli.numbers import counted, shown
from pgkeras.cli.run_options import groups_of, run_options
from pgkeras.evaluation import statistics
from pgkeras.runs.counters import MEAN_RETURN

__all__ = ["command", "lines"]

_ALL = "all runs"


@click.command()
@run_options
@click.option("--metric", default=MEAN_RETURN, show_default=True, help="Metric to compare.")
@click.option("--at", type=click.IntRange(1), metavar="STEPS", help="Steps at which to compare. [default: the end]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    run_directories: tuple[Path, ...],
    by: str,
    groups: tuple[tuple[str, str], ...],
    metric: str,
    at: int | None,
    as_json: bool,
) -> None:
    """Compare the results of runs: interquartile means over seeds, with intervals and probabilities of improvement.

    Runs of one environment with the same value of --by, or with the same --group label, form a group. The output shows
    the interquartile mean of each group with its 95 % bootstrap interval. For every pair of groups, it shows the
    probability that a run of the first is better than one of the second, with its interval (Agarwal et al. 2021). If
    this interval contains 50 %, the difference may be due to chance. For groups of fewer than five runs, only the range
    is shown, because intervals would be too narrow. Runs without a finished epoch are skipped.

    \b
    Examples:
      pgkeras compare runs/* --by baseline
      pgkeras compare --group old 'runs/old-*' --group new 'runs/new-*' --at 300000
    """
    found = compared(groups_of(run_directories, groups, by), metric, at)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        for line in lines(found):
            click.echo(line)


def compared(
    groups: dict[str, dict[str, Any]], metric: str = MEAN_RETURN, at: int | None = None
) -> list[dict[str, Any]]:
    """Compares the groups of each environment; see :func:`pgkeras.runs.groups.grouped`.

    Args:
        groups: The groups.
        metric: The metric.
        at: Number of steps; None for the end of the run.

    Returns:
        For each environment its id, its groups and all pairwise comparisons, as ``--json`` prints them.

    Raises:
        RunError: A run does not have the metric, or has fewer steps.
    """
    from pgkeras.runs.curves import value_at

    result = []
    for env_id, of_env in groups.items():
        values = {label: value_at([run.path for run in runs], metric, at) for label, runs in of_env.items()}
        rows, pairs = [], []
        for label, of_group in values.items():
            low, high = statistics.bootstrap_interval([of_group]) if _are_enough(of_group) else (None, None)
            middle = float(statistics.interquartile_mean(of_group))
            ends = [None if end is None else float(end) for end in (low, high)]
            row = {"group": label, "runs": len(of_group), "interquartile_mean": middle, "interval": ends}
            rows.append({**row, "range": [float(of_group.min()), float(of_group.max())]})
        for (one, ours), (other, theirs) in itertools.combinations(values.items(), 2):
            better = statistics.probability_of_improvement(ours, theirs)
            interval = statistics.improvement_interval(ours, theirs) if _are_enough(ours, theirs) else None
            pairs.append({"first": one, "second": other, "probability": better, "interval": interval})
        result.append({"env_id": env_id, "metric": metric, "at": at, "groups": rows, "pairs": pairs})
    return result


def lines(comparisons: list[dict[str, Any]]) -> list[str]:
    """Formats comparisons as lines of text; see :func:`compared`."""
    text: list[str] = []
    for of_env in comparisons:
        when = "at the end" if of_env["at"] is None else f"after {of_env['at']:,} steps"
        text += ["", f"{of_env['env_id']}, {of_env['metric']} {when}"]
        width = max(len(row["group"] or _ALL) for row in of_env["groups"])
        for row in of_env["groups"]:
            name, middle = row["group"] or _ALL, shown(row["interquartile_mean"])
            text.append(f"  {name:<{width}}  {middle:>10}  ({_spread(row)})  {counted(row['runs'], 'run')}")
        for pair in of_env["pairs"]:
            first, second = pair["first"] or _ALL, pair["second"] or _ALL
            if pair["interval"] is None:
                few = f"not compared, because one of them has fewer than {statistics.FEWEST_RUNS} runs"
                text.append(f"  {first} and {second}: {few}")
            else:
                low, high = pair["interval"]
                text.append(f"  {first} better than {second}: {pair['probability']:.0%} ({low:.0%} to {high:.0%})")
    return text[1:]


def _spread(row: dict[str, Any]) -> str:
    """Formats the interval of a group's mean, or the range of its runs if they are too few for an interval."""
    if row["runs"] == 1:
        return "one run: no interval"
    low, high = row["range"] if row["interval"][0] is None else row["interval"]
    return f"{shown(low)} to {shown(high)}" + (", the range" if row["interval"][0] is None else "")


def _are_enough(*groups: NDArray[np.float64]) -> bool:
    """Whether all groups have enough runs for an interval."""
    return all(len(group) >= statistics.FEWEST_RUNS for group in groups)
