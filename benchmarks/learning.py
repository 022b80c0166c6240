"""Trains every row of docs/results.md with several seeds.

``python -m benchmarks.learning`` trains the rows of ``benchmarks.rows``, each seed in a separate process on one thread.
Every run is a line of ``docs/results.jsonl``. Runs in that file with the current settings are not repeated. At the end
the tables are written to ``docs/results.md``. MuJoCo's environments need ``pip install "gymnasium[mujoco]"``,
LunarLander ``pip install "gymnasium[box2d]"``, and Pong ``pip install ale-py opencv-python-headless``.

No run stops early, so figures show final performance, including runs that reached the goal and lost it again. They are
followed by figures of the exported policy, which is the best one in evaluations if the preset has evaluations.

A figure is the interquartile mean over seeds (the mean of the middle half), as Agarwal et al. 2021 advise, "Deep
reinforcement learning at the edge of the statistical precipice", followed by the lowest and the highest seed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.budget import by_settings, fill, greedy_mean, in_process, parser_of_runs
from benchmarks.report import table, write_below
from benchmarks.rows import DEFAULTS, LONGER, ROWS, SOURCES, Row
from pgkeras.evaluation import statistics
from pgkeras.settings.config import Config
from pgkeras.settings.recipe import Recipe

DOCS = Path(__file__).parent.parent / "docs"
_EPISODES = 100  # of the greedy evaluations
_SLOTS = 10  # parallel environments of the evaluations; other numbers would play other episodes
_CURVE_POINTS = 50
_MARKER = "<!-- made by python -m benchmarks.learning -->"
_TABLES = {"presets": ROWS, "longer": LONGER, "defaults": DEFAULTS}
_NAMED = {row.name: row for rows in _TABLES.values() for row in rows}
_LONGER = """## Longer runs

These runs use the same presets with other settings, written as `--set` takes them. Schedules end with the run. The
table is made by `python -m benchmarks.learning --table longer`."""
_DEFAULTS = """## Defaults

These runs use only the defaults of `pgkeras/settings/groups.py` (`--preset default`). `pgkeras train` uses the presets
`discrete` and `continuous` instead if an environment has no preset ([defaults.md](defaults.md)). The last column is the
mean return of 1,000 random episodes. The table is made by `python -m benchmarks.learning --table defaults`."""


def main() -> None:
    parser = parser_of_runs(__doc__, one=("ROW", "SEED"), seeds=5)
    parser.add_argument("--table", choices=_TABLES, default="presets", help="run the rows of this table")
    parser.add_argument("--only", nargs="*", choices=[row.env_id for row in ROWS], help="run only these environments")
    options = parser.parse_args()
    if options.one:
        name, seed = options.one
        print(json.dumps(_train(_NAMED[name].config(int(seed)))))
        return
    rows = [row for row in _TABLES[options.table] if options.only is None or row.env_id in options.only]
    for env_id in set(options.only or ()) - {row.env_id for row in rows}:
        parser.error(f"--only {env_id}: the table {options.table!r} has no such row")
    wanted = [
        {"row": row.name, "seed": seed}
        for seed in range(options.seeds)  # breadth first: one seed of every row before the next seed
        for row in rows
    ]

    def run(which: Mapping[str, Any]) -> dict[str, Any]:
        return in_process("benchmarks.learning", ["--one", which["row"], str(which["seed"])])

    runs = fill(DOCS / "results.jsonl", wanted, run, options.jobs, _is_current)
    sources = "\n".join(f"- {name}: {source}." for name, source in SOURCES.items())
    parts = [
        _table(ROWS, runs),
        "Sources of the published figures:",
        sources,
        _LONGER,
        _table(LONGER, runs, changed=True),
        _DEFAULTS,
        _defaults(runs),
    ]
    write_below(DOCS / "results.md", _MARKER, "\n\n".join(parts))


def _is_current(run: dict[str, Any]) -> bool:
    """Whether the run is of a known row and has the current settings."""
    row = _NAMED.get(run["row"])
    return row is not None and by_settings(run, row.config(run["seed"]))


def _train(config: Config) -> dict[str, Any]:
    from pgkeras.policy.export import package_versions
    from pgkeras.runs.training import Training

    training = Training(config)
    curve = []
    for metrics in training:
        if metrics.env_steps * _CURVE_POINTS >= config.steps * (len(curve) + 1):
            curve.append([metrics.env_steps, round(metrics.mean_return_100, 2)])
            print(f"{config.env_id} seed {config.seed}:", *curve[-1], file=sys.stderr, flush=True)
    training.finish()

    recipe = Recipe.read(config.to_json())
    return {
        "steps": training.env_steps,
        "seconds": training.seconds,
        "last_100": training.mean_return_100,
        "greedy": greedy_mean(training, recipe, _EPISODES, _SLOTS, "last"),
        "exported": greedy_mean(training, recipe, _EPISODES, _SLOTS, "best"),
        "curve": curve,
        "config": config.to_json(),
        "packages": package_versions(),
    }


def _table(rows: list[Row], runs: list[dict[str, Any]], *, changed: bool = False) -> str:
    lines = []
    for row in rows:
        of_row = [run for run in runs if run["row"] == row.name]
        lines.append(
            {
                **_figures(row, of_row),
                "100 greedy episodes, exported policy": _interquartile([run["exported"] for run in of_row]),
                **({"settings": f"`{row.changes}`"} if changed else {"steps": f"{row.config(0).steps:,}"}),
                "seconds, median": f"{np.median([run['seconds'] for run in of_row]):,.0f}" if of_row else "",
                "published, or the task": row.beside,
            }
        )
    return table(lines)


def _defaults(runs: list[dict[str, Any]]) -> str:
    return table(
        {**_figures(row, [run for run in runs if run["row"] == row.name]), "at random": row.beside} for row in DEFAULTS
    )


def _figures(row: Row, runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "environment": row.env_id,
        "seeds": len(runs) or "not yet run",
        "last 100 training episodes": _interquartile([run["last_100"] for run in runs]),
        "100 greedy episodes": _interquartile([run["greedy"] for run in runs]),
    }


def _interquartile(values: list[float]) -> str:
    digits = 1 if np.abs(values).max(initial=0) >= 10 else 2
    if len(values) < 2:
        return "".join(f"{value:,.{digits}f}" for value in values)
    data = np.array(values)
    return f"{statistics.interquartile_mean(data):,.{digits}f} ({data.min():,.{digits}f} to {data.max():,.{digits}f})"


if __name__ == "__main__":
    main()
