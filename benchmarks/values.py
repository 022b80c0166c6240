"""Compares the strengths of policy gradients and of value-based learning, by Stable-Baselines3's DQN.

``python -m benchmarks.values`` has three parts, each with the same processor time on one thread for both (see
``benchmarks.budget``): CartPole to 475, with RL Zoo's settings for DQN; one task with 2 to 10,000 actions and with a
continuous action; and two tasks whose best policy is stochastic. DQN has a separate virtual environment (see
``benchmarks.peers``).

Every run is a line of ``docs/values.jsonl``. Runs in that file with the current settings are not repeated. At the end
the tables are written to ``docs/values.md``, and the figure to ``docs/images/values.png``.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.budget import by_settings, config_of, fill, in_process, parser_of_runs, peer_for, train_for
from benchmarks.cases import Case
from benchmarks.report import spread, table, write_below
from pgkeras.runs.plotting import save_figure
from pgkeras.settings.config import Config

DOCS = Path(__file__).parent.parent / "docs"
_FILE = DOCS / "values.jsonl"
_MARKER = "<!-- made by python -m benchmarks.values -->"
_GOAL = 475.0
_STEPS = 10**9  # DQN's schedule of exploration is a share of these; the time ends the run earlier
# The default is a tenth of the steps. Here it is about a tenth of the steps that DQN takes in the time.
_EXPLORATION = {"exploration_fraction": 5_000 / _STEPS}
# RL Baselines3 Zoo, hyperparams/dqn.yml, CartPole-v1; 0.16 of 50,000 steps.
_ZOO = {
    "learning_rate": 2.3e-3,
    "batch_size": 64,
    "buffer_size": 100_000,
    "learning_starts": 1_000,
    "gamma": 0.99,
    "target_update_interval": 10,
    "train_freq": 256,
    "gradient_steps": 128,
    "exploration_fraction": 8_000 / _STEPS,
    "exploration_final_eps": 0.04,
    "policy_kwargs": {"net_arch": [256, 256]},
}
_OURS, _THEIRS = "pgkeras", "DQN"
_COLORS = {_OURS: "#2563a8", _THEIRS: "#c05621"}
_ACTIONS = (2, 10, 100, 1_000, 10_000)


@dataclass(frozen=True)
class Task:
    """A task for both learners.

    Args:
        case: The environment.
        seconds: Processor time of each run.
        preset: Preset of pgkeras. By default the one for the kind of actions.
        dqn: Settings of DQN; None if it does not support the task.
        stop_return: Mean return over 100 episodes at which a run ends.
    """

    case: Case
    seconds: float = 20.0
    preset: str | None = None
    dqn: Mapping[str, Any] | None = field(default_factory=lambda: _EXPLORATION)
    stop_return: float | None = None

    def config(self, seed: int) -> Config:
        """Returns the settings of pgkeras."""
        goal = {} if self.stop_return is None else {"stop_return": self.stop_return}
        return config_of(self.case, seed, goal, self.preset)


def _of(env_id: str, **kwargs: Any) -> Case:
    return Case(f"benchmarks.environments:{env_id}", **kwargs)


_CARTPOLE, _CONTINUOUS, _CORRIDOR, _ROCK = "CartPole", "continuous", "switched corridor", "rock, paper, scissors"
TASKS = {
    _CARTPOLE: Task(Case("CartPole-v1"), 120.0, "cartpole-v1", _ZOO, _GOAL),
    **{f"{n:,}": Task(_of("Aim-v0", kwargs={"choices": n})) for n in _ACTIONS},
    _CONTINUOUS: Task(_of("Aim-v0", continuous=True), dqn=None),
    _CORRIDOR: Task(_of("SwitchedCorridor-v0", is_unlimited=True, evaluation_steps=1_000)),
    _ROCK: Task(_of("RockPaperScissors-v0")),
}


def main() -> None:
    options = parser_of_runs(__doc__, one=("TASK", "SEED")).parse_args()
    if options.one:
        task, seed = TASKS[options.one[0]], int(options.one[1])
        print(json.dumps(train_for(task.case, task.config(seed), task.seconds)))
        return
    wanted = [
        {"task": name, "learner": learner, "seed": seed}
        for seed in range(options.seeds)
        for name, task in TASKS.items()
        for learner in (_OURS, _THEIRS)
        if learner == _OURS or task.dqn is not None
    ]

    def run(which: Mapping[str, Any]) -> dict[str, Any]:
        task, seed = TASKS[which["task"]], which["seed"]
        if which["learner"] == _OURS:
            outcome = in_process("benchmarks.values", ["--one", which["task"], str(seed)])
        else:
            goal: dict[str, Any] = {} if task.stop_return is None else {"stop_return": task.stop_return}
            outcome = peer_for(task.case, _THEIRS, seed, task.seconds, settings=task.dqn, **goal)
            outcome["config"] = task.dqn
        return {"budget": task.seconds, **outcome}

    runs = fill(_FILE, wanted, run, options.jobs, _is_current)
    write_below(DOCS / "values.md", _MARKER, _tables(runs))
    save_figure(_picture(runs), DOCS / "images" / "values.png", dpi=110)


def _is_current(run: dict[str, Any]) -> bool:
    """Whether the run has the current settings."""
    task = TASKS.get(run["task"])
    if task is None or run["budget"] != task.seconds:
        return False
    if run["learner"] == _THEIRS:
        return bool(run["config"] == task.dqn)
    return by_settings(run, task.config(run["seed"]))


def _select(runs: list[dict[str, Any]], task: str, learner: str) -> list[dict[str, Any]]:
    return [run for run in runs if (run["task"], run["learner"]) == (task, learner)]


def _tables(runs: list[dict[str, Any]]) -> str:
    mixtures = [_row(runs, task, learner) for task in (_CORRIDOR, _ROCK) for learner in _COLORS]
    many = [_actions(runs, task) for task in (*(f"{n:,}" for n in _ACTIONS), _CONTINUOUS)]
    cartpole = [_row(runs, _CARTPOLE, learner) for learner in _COLORS]
    seeds = len(_select(runs, _ROCK, _THEIRS))
    return (
        f"Medians of {seeds} seeds, lowest to highest in brackets.\n\n### A policy that must be a mixture\n\n"
        f"{table(mixtures)}\n\n### Many actions\n\n{table(many)}\n\n### CartPole to {_GOAL:g}\n\n{table(cartpole)}"
    )


def _row(runs: list[dict[str, Any]], task: str, learner: str) -> dict[str, str]:
    found = _select(runs, task, learner)
    columns = {
        "seconds": [run["seconds"] for run in found],
        "steps": [run["steps"] for run in found],
        "last 100 training episodes": [run["last_100"] for run in found],
        "greedy": [run["greedy"] for run in found],
    }
    figures = {name: spread(values, 0 if name == "steps" else 1) for name, values in columns.items()}
    return {"task": task, "learner": learner, **figures}


def _actions(runs: list[dict[str, Any]], task: str) -> dict[str, str]:
    row = {"actions": task}
    for learner in _COLORS:
        found = _select(runs, task, learner)
        row[f"{learner}, return"] = spread([run["greedy"] for run in found]) if found else "cannot"
        row[f"{learner}, steps"] = f"{statistics.median(run['steps'] for run in found):,.0f}" if found else ""
    return row


def _picture(runs: list[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(9.6, 6.4), layout="constrained")
    (seconds, steps), (many, mixture) = figure.subplots(2, 2)
    for axes, column, label in ((seconds, 0, "seconds of processor time"), (steps, 1, "environment steps")):
        _curves(axes, runs, _CARTPOLE, column, label)
        axes.axhline(_GOAL, color="0.6", linestyle="--", linewidth=1)
        axes.set(xscale="log")
    seconds.set(title="CartPole-v1, by seconds")
    steps.set(title="CartPole-v1, by steps")
    seconds.legend(loc="upper left")
    _many(many, runs)
    _curves(mixture, runs, _CORRIDOR, 0, "seconds of processor time")
    mixture.axhline(-11.6, color="0.6", linestyle="--", linewidth=1)
    mixture.set(title="A task whose best policy is a mixture", ylim=(-120, 0))
    for axes in (seconds, steps, many, mixture):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    return figure


def _curves(axes: Any, runs: list[dict[str, Any]], task: str, column: int, label: str) -> None:
    for learner, color in _COLORS.items():
        for i, run in enumerate(_select(runs, task, learner)):
            points = [(row[column], row[2]) for row in run["curve"] if row[2] is not None]
            points.append(((run["seconds"], run["steps"])[column], run["last_100"]))
            x, y = zip(*points, strict=True)
            axes.plot(x, y, color=color, linewidth=1.3, label=learner if i == 0 else None)
    axes.set(xlabel=label, ylabel="return, 100 episodes")


def _many(axes: Any, runs: list[dict[str, Any]]) -> None:
    ticks: Sequence[str] = [*(f"{n:,}" for n in _ACTIONS), _CONTINUOUS]
    for learner, color in _COLORS.items():
        returns = [[run["greedy"] for run in _select(runs, task, learner)] for task in ticks]
        for i, values in enumerate(returns):
            axes.plot([i] * len(values), values, ".", color=color, alpha=0.5)
        there = [i for i, values in enumerate(returns) if values]
        axes.plot(there, [statistics.median(returns[i]) for i in there], color=color, linewidth=1.3)
    best = [8 - 4 / n for n in _ACTIONS] + [8.0]
    axes.plot(range(len(ticks)), best, color="0.6", linestyle="--", linewidth=1)
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set(title="Many actions", xlabel="number of actions", ylabel="return, greedy")


if __name__ == "__main__":
    main()
