"""Compares the defaults with another library's defaults, on 20 environments that neither was tuned for.

``python -m benchmarks.defaults`` trains each environment of ``benchmarks.cases`` like ``pgkeras train`` without a
preset of its own: with the preset for its kind of actions. Each run has 90 seconds of processor time on one thread (see
``benchmarks.budget``). PPO and A2C of Stable-Baselines3 have the same time and their own defaults. Random actions are
included for comparison.

Every run is a line of ``docs/defaults.jsonl``. Runs in that file with the current settings are not repeated. At the end
the table is written to ``docs/defaults.md``. The environments need the dependency group ``cases``. The peer has a
separate virtual environment (see ``benchmarks.peers``).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.budget import (
    EPISODES,
    EVALUATION_SEED,
    by_settings,
    config_of,
    fill,
    in_process,
    parser_of_runs,
    peer_for,
    played,
    train_for,
)
from benchmarks.cases import CASES, Case
from benchmarks.report import table, write_below
from pgkeras.environments.random_action import random_action
from pgkeras.settings.config import assignments
from pgkeras.settings.recipe import Recipe

DOCS = Path(__file__).parent.parent / "docs"
_FILE = DOCS / "defaults.jsonl"
_MARKER = "<!-- made by python -m benchmarks.defaults -->"
_LEARNERS = ("pgkeras", "PPO", "A2C", "random")


def main() -> None:
    parser = parser_of_runs(__doc__, one=("CASE", "LEARNER", "SEED"), only=CASES, learners=_LEARNERS)
    parser.add_argument("--seconds", type=float, default=90.0, help="processor time of each run")
    parser.add_argument("--set", action="append", default=[], help="a setting that differs from the defaults")
    parser.add_argument("--file", type=Path, default=_FILE, help="file of saved runs")
    options = parser.parse_args()
    if options.one:
        case, learner, seed = options.one
        print(json.dumps(_run(CASES[case], learner, int(seed), options.seconds, options.set)))
        return
    wanted = [  # breadth first: one seed of every environment before the next seed
        {"case": case, "learner": learner, "seed": seed}
        for seed in range(options.seeds)
        for case in options.only
        for learner in options.learners
    ]

    def run(which: Mapping[str, Any]) -> dict[str, Any]:
        case, learner, seed = which["case"], which["learner"], which["seed"]
        kept = {"set": options.set, "budget": options.seconds}
        if learner in ("PPO", "A2C"):
            return {**kept, **peer_for(CASES[case], learner, seed, options.seconds)}
        arguments = ["--seconds", str(options.seconds), *(f"--set={pair}" for pair in options.set)]
        return {**kept, **in_process("benchmarks.defaults", [*arguments, "--one", case, learner, str(seed)])}

    current = fill(options.file, wanted, run, options.jobs, lambda run: _is_current(run, options))
    if options.file == _FILE:
        write_below(DOCS / "defaults.md", _MARKER, _table(current))
    else:
        print(_table(current))


def _is_current(run: dict[str, Any], options: argparse.Namespace) -> bool:
    """Whether the run is of a known case and, for pgkeras, has the current settings."""
    if run["case"] not in CASES or run["learner"] not in _LEARNERS or run["budget"] != options.seconds:
        return run["learner"] == "random" and run["case"] in CASES
    if run["learner"] != "pgkeras":
        return True
    return by_settings(run, config_of(CASES[run["case"]], run["seed"], assignments(options.set)))


def _run(case: Case, learner: str, seed: int, seconds: float, assigned: list[str]) -> dict[str, Any]:
    if learner == "random":
        return {"steps": 0, "seconds": 0.0, "last_100": None, "greedy": _random(played(case))}
    return train_for(case, config_of(case, seed, assignments(assigned)), seconds)


def _random(recipe: Recipe) -> float:
    """Returns the mean return of random actions, among those that the mask allows."""
    from pgkeras import environments

    env = environments.make_one(recipe)
    env.action_space.seed(0)
    returns = []
    for episode in range(EPISODES):
        _, info = env.reset(seed=EVALUATION_SEED + episode)
        total, over = 0.0, False
        while not over:
            action = random_action(env.action_space, info.get("action_mask"))
            _, reward, terminated, truncated, info = env.step(action)
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    return float(np.mean(returns))


def _table(runs: list[dict[str, Any]]) -> str:
    rows, ahead, complete = [], 0, 0
    for case in CASES:
        means = {learner: _mean(runs, case, learner) for learner in _LEARNERS}
        ours, others = means["pgkeras"], [v for k, v in means.items() if k in ("PPO", "A2C") and v is not None]
        level = ours is not None and bool(others) and _level(ours, max(others), means["random"])
        complete += ours is not None and bool(others)
        ahead += level
        counts = [sum((run["case"], run["learner"]) == (case, learner) for run in runs) for learner in _LEARNERS]
        figures = {name: "" if mean is None else f"{mean:,.2f}" for name, mean in means.items()}
        told = {"environment": case, "seeds, at least": min(counts)}
        rows.append({**told, **figures, "ahead or level": "yes" if level else ""})
    return f"{table(rows)}\n\nAhead of or level with the better of the two in {ahead} of the {complete} that are in."


def _level(ours: float, best: float, random: float | None) -> bool:
    """Whether ours is at least the best return, less 2 % of the difference between that and random play."""
    return ours >= best - 0.02 * abs(best - (best if random is None else random))


def _mean(runs: list[dict[str, Any]], case: str, learner: str) -> float | None:
    values = [run["greedy"] for run in runs if (run["case"], run["learner"]) == (case, learner)]
    return float(np.mean(values)) if values else None


if __name__ == "__main__":
    main()
