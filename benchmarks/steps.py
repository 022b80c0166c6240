"""Sample efficiency, for expensive simulators: returns after a number of steps, with and without ``reuse``, and of PPO.

``python -m benchmarks.steps`` trains six environments for 100,000 steps each, without a time limit: with the preset
``slow-simulator``, which takes up to 20 gradient steps per batch; with the same and a discount for each environment;
with one natural gradient step per batch and such a discount; with the environment's preset; and with the PPO of
Stable-Baselines3 and RL Zoo's settings, in a separate virtual environment (see ``benchmarks.peers``). The table has the
mean return of the last 100 training episodes. With ``--steps 1000000``, PPO is not run: the table has its published
figures, which are of greedy episodes, and ours of greedy episodes, too.

Every run is a line of ``docs/steps.jsonl``. Runs in that file with the current settings are not repeated. At the end
the table is written to ``docs/steps.md``.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.budget import by_settings, config_of, fill, in_process, parser_of_runs, peer_for, train_for
from benchmarks.cases import Case
from benchmarks.report import mean_and_range, table, write_below
from pgkeras.settings.config import Config, preset_for
from pgkeras.settings.groups import StepSettings

DOCS = Path(__file__).parent.parent / "docs"
_FILE = DOCS / "steps.jsonl"
_MARKER = "<!-- made by python -m benchmarks.steps -->"
_SLOW, _TUNED, _OWN = "slow-simulator", "the same, own gamma", "own preset"
_NATURAL = "one natural gradient step, own gamma"
_PPO = "PPO"
_OURS = (_SLOW, _TUNED, _NATURAL, _OWN)
_LEARNERS = (*_OURS, _PPO)
_ONE_STEP = {
    "batch_steps": 1000,
    "reuse": 1,
    "learning_rate": StepSettings.learning_rate,
    "learning_rate_schedule": "linear",
    "optimizer": "natural",
    "target_kl": 0.1,
}
_PUBLISHED_STEPS = 1_000_000
# From RL Baselines3 Zoo, `benchmark.md`: one run each, on earlier versions of some environments, and for Pendulum after
# 100,000 steps.
_PUBLISHED = {
    "Hopper-v5": 2_410.4,
    "Walker2d-v5": 3_478.8,
    "HalfCheetah-v5": 5_819.1,
    "LunarLander-v3": 242.1,
    "Pendulum-v1": -172.2,
    "Acrobot-v1": -73.5,
}
_LEVEL = 0.1  # "within 10 %" of the difference between the peer and random play

# The environments, and the approximate returns of random actions.
_RANDOM = {
    "Hopper-v5": 18.0,
    "Walker2d-v5": 2.0,
    "HalfCheetah-v5": -290.0,
    "LunarLander-v3": -180.0,
    "Pendulum-v1": -1_200.0,
    "Acrobot-v1": -499.0,
}
# A suitable discount for each of them with few steps.
_GAMMA = {
    "Hopper-v5": 0.995,
    "Walker2d-v5": 0.995,
    "HalfCheetah-v5": 0.99,
    "LunarLander-v3": 0.99,
    "Pendulum-v1": 0.9,
    "Acrobot-v1": 0.99,
}


def main() -> None:
    parser = parser_of_runs(__doc__, one=("CASE", "LEARNER", "SEED"), only=_RANDOM, learners=_LEARNERS)
    parser.add_argument("--steps", type=int, default=100_000, help="environment steps of each run")
    options = parser.parse_args()
    if options.one:
        case, learner, seed = options.one
        print(json.dumps(train_for(Case(case), _config(case, learner, int(seed), options.steps), math.inf)))
        return
    wanted = [
        {"case": case, "learner": learner, "seed": seed, "budget": options.steps}
        for seed in range(options.seeds)
        for case in options.only
        for learner in dict.fromkeys(_kept_as(case, name) for name in options.learners)
        if not (learner == _PPO and options.steps == _PUBLISHED_STEPS)
    ]

    def run(which: Mapping[str, Any]) -> dict[str, Any]:
        case, learner, seed = which["case"], which["learner"], which["seed"]
        if learner == _PPO:
            settings = peers.zoo("PPO", case)
            asked = {"settings": settings, "steps": options.steps, "episodes": 0}
            return {**peer_for(Case(case), "PPO", seed, math.inf, **asked), "config": settings}
        arguments = ["--steps", str(options.steps), "--one", case, learner, str(seed)]
        return in_process("benchmarks.steps", arguments)

    runs = fill(_FILE, wanted, run, options.jobs, _is_current)
    tables = [_table(runs, steps) for steps in sorted({run["budget"] for run in runs})]
    write_below(DOCS / "steps.md", _MARKER, "\n\n".join(tables))


def _config(case: str, learner: str, seed: int, steps: int) -> Config:
    if learner == _OWN:
        return config_of(Case(case), seed, {"steps": steps, "evaluation_every": 0}, preset_for(case))
    differs: dict[str, Any] = {} if learner == _SLOW else {"gamma": _GAMMA[case]}
    if learner == _NATURAL:
        differs |= _ONE_STEP
    return config_of(Case(case), seed, {"steps": steps, **differs}, _SLOW)


def _kept_as(case: str, learner: str) -> str:
    """Returns the name that a learner's runs are saved under. If its discount equals the preset's, runs are shared."""
    same = learner == _TUNED and _config(case, _TUNED, 0, 1) == _config(case, _SLOW, 0, 1)
    return _SLOW if same else learner


def _is_current(run: dict[str, Any]) -> bool:
    """Whether the run has the current settings."""
    case, learner = run["case"], run["learner"]
    if learner == _PPO:
        return bool(run["config"] == peers.zoo("PPO", case))
    return by_settings(run, _config(case, learner, run["seed"], run["budget"]))


def _table(runs: list[dict[str, Any]], steps: int) -> str:
    figure, peer = "last_100", _PPO
    if steps == _PUBLISHED_STEPS:
        figure, peer = "greedy", "PPO, published"
        runs = [
            *runs,
            *({"case": case, "learner": peer, "budget": steps, figure: of} for case, of in _PUBLISHED.items()),
        ]
    rows = []
    for case, random in _RANDOM.items():
        here = [run for run in runs if run["case"] == case and run["budget"] == steps]
        found = {
            name: [run[figure] for run in here if run["learner"] == _kept_as(case, name)] for name in (*_OURS, peer)
        }
        ours = {name: found[name] for name in _OURS if found[name]}
        if not (ours and found[peer]):
            continue
        mean = statistics.fmean(found[peer])
        least = mean - _LEVEL * abs(mean - random)
        cells = {name: mean_and_range(values) if values else "" for name, values in found.items()}
        level = {name: f"**{cells[name]}**" for name in ours if statistics.fmean(found[name]) >= least}
        counted = [*ours.values(), *([] if steps == _PUBLISHED_STEPS else [found[peer]])]
        rows.append({"environment": case, "seeds, at least": min(map(len, counted)), **cells, **level})
    return f"### {steps:,} steps\n\n{table(rows)}" if rows else ""


if __name__ == "__main__":
    main()
