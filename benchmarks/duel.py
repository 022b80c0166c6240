"""Compares our presets with other libraries for the same processor time.

``python -m benchmarks.duel`` trains 14 environments for 300 seconds of processor time on one thread each (see
``benchmarks.budget``; our runs end by wall-clock time, so each needs a core): with our preset, with the PPO of
Stable-Baselines3 and RL Zoo's settings, with the PPO of SBX, which is the same in JAX, with the same settings, and for
continuous actions with SBX's SAC. Each library has a separate virtual environment (see ``benchmarks.peers``). The
tables have the return of 100 greedy episodes with the final policy, and the mean return of the last 100 training
episodes. Our final policy is the exported one: if the preset evaluates during training, which the seconds include, the
best policy of those evaluations. The peers' final policy is their last one.

Every run is a line of ``docs/duel.jsonl``. Runs in that file with the current settings are not repeated. At the end the
tables are written to ``docs/duel.md``, and the learning curves over seconds to ``docs/images/duel.png``. Other values
of ``--seconds`` have separate tables and figures (``duel-1800.png``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from benchmarks import peers
from benchmarks.budget import by_settings, config_of, fill, in_process, parser_of_runs, peer_for, train_for
from benchmarks.cases import Case
from benchmarks.report import mean_and_range, table, write_below
from benchmarks.rows import LONGER
from pgkeras.evaluation import statistics
from pgkeras.runs.plotting import save_figure
from pgkeras.settings.config import DEFAULT, Config, preset_for

DOCS = Path(__file__).parent.parent / "docs"
_FILE = DOCS / "duel.jsonl"
_MARKER = "<!-- made by python -m benchmarks.duel -->"
_OURS = "pgkeras"
_PEERS = {"SB3 PPO": (peers.SB3, "PPO"), "SBX PPO": (peers.SBX, "PPO"), "SBX SAC": (peers.SBX, "SAC")}
_LEARNERS = (_OURS, *_PEERS)
_COLORS = {_OURS: "#2563a8", "SB3 PPO": "#c05621", "SBX PPO": "#6b7280", "SBX SAC": "#3f8f4f"}
_EPISODES = 100
_SECONDS = 300.0
_WIDTH = 5  # panels per row
_DIFFERENCES = """Mean return in greedy episodes, pgkeras minus the peer. In parentheses: the smallest and the largest
difference between two seeds. P is the share of pairs of seeds in which pgkeras has the higher return."""
_GREEDY = "Mean return of 100 greedy episodes, with pgkeras' exported policy and the peers' last policies:"

Floats = NDArray[np.float64]

CASES = (
    "LunarLander-v3",
    "Hopper-v5",
    "HalfCheetah-v5",
    "Walker2d-v5",
    "BipedalWalker-v3",
    "Ant-v5",
    "Humanoid-v5",
    "Swimmer-v5",
    "Reacher-v5",
    "InvertedDoublePendulum-v5",
    "Acrobot-v1",
    "Pendulum-v1",
    "MountainCarContinuous-v0",
    "CartPole-v1",
)
_DISCRETE = ("LunarLander-v3", "Acrobot-v1", "CartPole-v1")
# Presets for much shorter runs have the changes of the table for more steps in docs/results.md.
_CHANGES = {row.env_id: {k: v for k, v in row.settings.items() if k != "steps"} for row in LONGER}
# Our runs and their schedules end by a time limit, which excludes evaluations: those get the remaining seconds. Two
# environments are learned long before, and end by their steps.
_TRAINING = 0.92
_LEARNT = {"Pendulum-v1": 1_000_000, "CartPole-v1": 3_000_000}


def main() -> None:
    parser = parser_of_runs(__doc__, one=("CASE", "SEED"), only=CASES, learners=_LEARNERS)
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="processor time of each run")
    options = parser.parse_args()
    if options.one:
        case, seed = options.one
        run = train_for(_case(case), _config(case, int(seed), options.seconds), options.seconds, _EPISODES)
        print(json.dumps(run))
        return
    wanted = [
        {"case": case, "learner": learner, "seed": seed, "budget": options.seconds}
        for seed in range(options.seeds)
        for case in options.only
        for learner in options.learners
        if not (learner == "SBX SAC" and case in _DISCRETE)
    ]

    def train(which: Mapping[str, Any]) -> dict[str, Any]:
        case, learner, seed = which["case"], which["learner"], which["seed"]
        if learner == _OURS:
            return in_process("benchmarks.duel", ["--seconds", str(options.seconds), "--one", case, str(seed)])
        library, algorithm = _PEERS[learner]
        settings = peers.zoo(algorithm, case)
        asked = {"settings": settings, "episodes": _EPISODES}
        outcome = peer_for(_case(case), algorithm, seed, options.seconds, library, **asked)
        return {**outcome, "config": settings}

    runs = fill(_FILE, wanted, train, options.jobs, _is_current)
    budgets = {}
    for seconds in sorted({run["budget"] for run in runs}):
        here = [run for run in runs if run["budget"] == seconds]
        if any(_met(here, case) for case in CASES):
            budgets[seconds] = here
    write_below(DOCS / "duel.md", _MARKER, "\n\n".join(_tables(here, seconds) for seconds, here in budgets.items()))
    for seconds, here in budgets.items():
        save_figure(_picture(here, seconds), DOCS / "images" / _picture_of(seconds), dpi=100)


def _case(name: str) -> Case:
    return Case(name, continuous=name not in _DISCRETE)


def _config(case: str, seed: int, seconds: float) -> Config:
    preset = preset_for(case)
    limits: dict[str, Any] = {"steps": _LEARNT[case]} if case in _LEARNT else {"time_limit": _TRAINING * seconds}
    return config_of(_case(case), seed, {**_CHANGES.get(case, {}), **limits}, None if preset == DEFAULT else preset)


def _is_current(run: dict[str, Any]) -> bool:
    """Whether the run has the current settings, except for limits that depend on the speed of its machine."""
    case, learner = run["case"], run["learner"]
    if case not in CASES or learner not in _LEARNERS:
        return False
    if learner == _OURS:
        config = _config(case, run["seed"], run["budget"])
        limits = {} if case in _LEARNT else {name: run["config"].get(name) for name in ("steps", "time_limit")}
        return by_settings(run, replace(config, **limits))
    return bool(run["config"] == peers.zoo(_PEERS[learner][1], case))


def _tables(runs: list[dict[str, Any]], seconds: float) -> str:
    """Returns the tables of runs of a budget. Budgets other than the default include their figure."""
    parts = [f"## {seconds:,.0f} seconds"]
    if seconds != _SECONDS:
        parts.append(f"![Mean training return over {seconds:,.0f} seconds](images/{_picture_of(seconds)})")
    parts += [_GREEDY, _returns(runs, "greedy")]
    parts += ["The last 100 training episodes:", _returns(runs, "last_100")]
    parts += [_DIFFERENCES, _comparison(runs)]
    missing = [case for case in CASES if not _met(runs, case)]
    if missing and seconds == _SECONDS:
        parts.append(f"Not yet run by both: {', '.join(missing)}.")
    return "\n\n".join(parts)


def _returns(runs: list[dict[str, Any]], key: str) -> str:
    rows = []
    for case in (case for case in CASES if _met(runs, case)):
        cells = {}
        for learner in _present(runs):
            of = _of(runs, case, learner)
            steps = np.mean([run["steps"] for run in of]) if of else 0
            values = [run[key] for run in of if run[key] is not None]
            cells[learner] = f"{mean_and_range(values, _digits(values))} [{_short(steps)}]" if values else ""
        rows.append({"environment": case, **cells})
    return table(rows)


def _comparison(runs: list[dict[str, Any]]) -> str:
    """Returns differences of means, and over pairs of our and their runs the range and how often ours is ahead."""
    rows, ahead, met = [], dict.fromkeys(_PEERS, 0), dict.fromkeys(_PEERS, 0)
    for case in (case for case in CASES if _met(runs, case)):
        ours = np.array([run["greedy"] for run in _of(runs, case, _OURS)])
        cells: dict[str, Any] = {"seeds": len(ours)}
        for peer in _present(runs)[1:]:
            theirs = np.array([run["greedy"] for run in _of(runs, case, peer)])
            cells[peer] = _difference(ours, theirs) if len(ours) and len(theirs) else ""
            met[peer] += bool(cells[peer])
            ahead[peer] += bool(cells[peer]) and bool(ours.mean() > theirs.mean())
        rows.append({"environment": case, **cells})
    told = "; ".join(f"{peer}: {ahead[peer]} of {met[peer]}" for peer in _PEERS if met[peer])
    return f"{table(rows)}\n\nEnvironments in which pgkeras has the higher mean return: {told}."


def _difference(ours: Floats, theirs: Floats) -> str:
    digits = _digits([*ours, *theirs])
    difference = f"{ours.mean() - theirs.mean():+,.{digits}f}"
    if min(len(ours), len(theirs)) < 2:
        return difference
    pairs = np.subtract.outer(ours, theirs)
    better = statistics.probability_of_improvement(ours, theirs)
    return f"{difference} ({pairs.min():+,.{digits}f} to {pairs.max():+,.{digits}f}), P {better:.2f}"


def _digits(returns: Sequence[float]) -> int:
    """Returns the number of decimals for returns of this magnitude."""
    return 1 if np.abs(returns).max() < 100 else 0


def _picture_of(seconds: float) -> str:
    return "duel.png" if seconds == _SECONDS else f"duel-{seconds:.0f}.png"


def _picture(runs: list[dict[str, Any]], seconds: float) -> Figure:
    """Plots mean training return over seconds, one panel per environment."""
    cases = [case for case in CASES if _met(runs, case)]
    rows = max(1, -(-len(cases) // _WIDTH))
    columns = max(1, -(-len(cases) // rows))
    figure = Figure(figsize=(2.6 * columns, 2.1 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, case in zip(panels, cases, strict=False):
        for learner in _LEARNERS:
            for run in _of(runs, case, learner):
                points = [(at, value) for at, _, value in run["curve"] if value is not None]
                if points[-1][0] < 0.98 * seconds:  # learned before the end of the time
                    points.append((seconds, points[-1][1]))
                panel.plot(*zip(*points, strict=True), color=_COLORS[learner], linewidth=1.1, alpha=0.9)
        panel.set_title(case, fontsize=9)
        panel.tick_params(labelsize=7)
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_xlim(0, seconds)
    for panel in panels[len(cases) :]:
        panel.axis("off")
    handles = [Line2D([], [], color=_COLORS[learner], label=learner) for learner in _present(runs)]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=9)
    figure.supxlabel("seconds of processor time", fontsize=9)
    figure.supylabel("mean training return", fontsize=9)
    return figure


def _present(runs: list[dict[str, Any]]) -> list[str]:
    """Returns the learners that have runs: ours, then the peers."""
    return [_OURS, *(peer for peer in _PEERS if any(run["learner"] == peer for run in runs))]


def _met(runs: list[dict[str, Any]], case: str) -> bool:
    """Whether there are runs of ours and of a peer."""
    return any(_of(runs, case, peer) for peer in _PEERS) and bool(_of(runs, case, _OURS))


def _of(runs: list[dict[str, Any]], case: str, learner: str) -> list[dict[str, Any]]:
    return [run for run in runs if (run["case"], run["learner"]) == (case, learner)]


def _short(steps: float) -> str:
    return f"{steps / 1e6:.1f}M" if steps >= 1e6 else f"{steps / 1e3:.0f}k"


if __name__ == "__main__":
    main()
