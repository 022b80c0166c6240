"""The defaults alone, on twenty environments for which nobody tuned them, beside another library's defaults.

``python -m benchmarks.defaults`` trains each environment of ``benchmarks.cases`` as ``pgkeras train`` does one that has
no preset: by the preset for its kind of actions. Each run has 90 seconds of
processor time on one thread, and so have the PPO and the A2C of Stable-Baselines3, each by its own defaults; random
actions play beside them. Processor time, not that of the clock: so runs take nothing from each other, and a busy
machine changes nothing but how long one waits. Imports and setup are not counted for anybody.

Every run is a line of ``docs/defaults.jsonl``; what is there already, by the settings of today, is not run again. At
the end the table is written into ``docs/defaults.md``. The environments need the dependency group ``cases``; the peer
has an environment of its own (see ``benchmarks.peers``).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.cases import CASES, Case
from benchmarks.report import machine, table
from pgkeras.environments.presets import CONTINUOUS, DISCRETE, LONGEST_EPISODE
from pgkeras.settings.config import Config, assignments, resolve
from pgkeras.settings.recipe import Recipe, WrapperCall

DOCS = Path(__file__).parent.parent / "docs"
_FILE = DOCS / "defaults.jsonl"
_MARKER = "<!-- made by python -m benchmarks.defaults -->"
_EPISODES = 30
_EVALUATION_SEED = 1_000_000
_LEARNERS = ("pgkeras", "PPO", "A2C", "random")
_NEVER = 1e9  # a return that none of the environments can give
_ENDLESS = 10**12  # steps that none can take in the time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=90.0, help="of processor time, for each run")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds, from 0 on")
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES), help="these environments alone")
    parser.add_argument("--learners", nargs="*", choices=_LEARNERS, default=list(_LEARNERS), help="these alone")
    parser.add_argument("--jobs", type=int, default=2, help="how many runs at once")
    parser.add_argument("--set", action="append", default=[], help="a setting beside the defaults, for an experiment")
    parser.add_argument("--file", type=Path, default=_FILE, help="where runs are kept")
    parser.add_argument("--one", nargs=3, metavar=("CASE", "LEARNER", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        case, learner, seed = options.one
        print(json.dumps(_run(CASES[case], learner, int(seed), options.seconds, options.set)))
        return
    python = peers.environment() if set(options.learners) & {"PPO", "A2C"} else None
    runs = _read(options.file)
    done = {(run["case"], run["learner"], run["seed"]) for run in runs if _is_current(run, options)}

    def wanted() -> Iterator[tuple[str, str, int]]:
        for seed in range(options.seeds):  # breadth first: a row of one seed says more than none
            for case in options.only:
                for learner in options.learners:
                    if (case, learner, seed) not in done:
                        yield case, learner, seed

    def run(which: tuple[str, str, int]) -> None:
        case, learner, seed = which
        try:
            outcome = _in_process(case, learner, seed, options, python)
        except subprocess.CalledProcessError as error:  # the others go on
            print(f"{case}, {learner}, seed {seed}: exit status {error.returncode}", file=sys.stderr, flush=True)
            return
        line = {"case": case, "learner": learner, "seed": seed, "set": options.set, **outcome, "machine": machine()}
        with options.file.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        print({key: line[key] for key in ("case", "learner", "seed", "steps", "last_100", "greedy")}, flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(run, wanted()))
    current = [run for run in _read(options.file) if _is_current(run, options)]
    if options.file == _FILE:
        document = DOCS / "defaults.md"
        head = document.read_text().partition(_MARKER)[0]
        document.write_text(f"{head}{_MARKER}\n\n{_table(current)}\n")
    else:
        print(_table(current))


def _read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _config(case: Case, seed: int, assigned: list[str]) -> Config:
    fixed = {"seed": seed, "stop_return": _NEVER, "steps": _ENDLESS}
    environment = {"env_kwargs": dict(case.kwargs) or None, "wrappers": case.wrappers}
    preset = CONTINUOUS if case.continuous else DISCRETE
    limit = {"max_episode_steps": LONGEST_EPISODE} if case.is_unlimited else {}
    return resolve(case.env_id, preset, {**fixed, **environment, **limit, **case.settings, **assignments(assigned)})


def _is_current(run: dict[str, Any], options: argparse.Namespace) -> bool:
    """Whether the run is of a case, and for pgkeras by the settings of today."""
    if run["case"] not in CASES or run["learner"] not in _LEARNERS or run["budget"] != options.seconds:
        return run["learner"] == "random" and run["case"] in CASES
    if run["learner"] != "pgkeras":
        return True
    now = _config(CASES[run["case"]], run["seed"], options.set)
    return Config.from_json({**Config(env_id=now.env_id).to_json(), **run["config"]}) == now


def _in_process(case: str, learner: str, seed: int, options: argparse.Namespace, python: Path | None) -> dict[str, Any]:
    one_thread = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    environ = {**os.environ, **one_thread, "CUDA_VISIBLE_DEVICES": ""}
    if learner in ("PPO", "A2C"):
        assert python is not None
        asked = {"case": asdict(CASES[case]), "algorithm": learner, "seed": seed, "seconds": options.seconds}
        return {"budget": options.seconds, **peers.budget(python, {**asked, **evaluation()}, environ)}
    command = [sys.executable, "-m", "benchmarks.defaults", "--seconds", str(options.seconds)]
    command += [f"--set={pair}" for pair in options.set] + ["--one", case, learner, str(seed)]
    process = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=environ)
    return {"budget": options.seconds, **json.loads(process.stdout.splitlines()[-1])}


def evaluation() -> dict[str, int]:
    """How what was learnt is evaluated."""
    return {"episodes": _EPISODES, "evaluation_seed": _EVALUATION_SEED}


def _run(case: Case, learner: str, seed: int, seconds: float, assigned: list[str]) -> dict[str, Any]:
    if learner == "random":
        return {"steps": 0, "seconds": 0.0, "last_100": None, "greedy": _random(_played(case))}
    return train_for(case, seed, seconds, assigned)


def train_for(case: Case, seed: int, seconds: float, assigned: Sequence[str] = ()) -> dict[str, Any]:
    """Trains on a case for so many seconds of processor time, and plays greedy episodes with what came of it."""
    from pgkeras import engines, environments
    from pgkeras.evaluation import evaluation as played_by
    from pgkeras.policy.export import package_versions
    from pgkeras.runs.training import Training

    played = _played(case)
    config = _config(case, seed, list(assigned))
    training = Training(config)
    began = time.process_time()

    def look(*_: int) -> None:
        if time.process_time() - began >= seconds:
            training.interrupt()

    training.on_progress = look
    curve = []
    for metrics in training:
        curve.append((round(time.process_time() - began, 2), metrics.env_steps, metrics.mean_return_100))
        look()
    spent = time.process_time() - began
    training.finish()
    with tempfile.TemporaryDirectory() as root:
        exported = training.export(root)
        actor = played_by.EngineActor(exported.spec, engines.load(exported), "greedy")
    greedy = played_by.evaluate(actor, environments.make(played, _EPISODES, "plain"), _EPISODES, _EVALUATION_SEED)
    return {
        "steps": training.env_steps,
        "seconds": spent,
        "last_100": training.mean_return_100,
        "greedy": greedy.mean,
        "curve": curve[:: max(1, len(curve) // 30)],
        "config": config.to_json(),
        "packages": package_versions(),
    }


def _played(case: Case) -> Recipe:
    return Recipe(case.env_id, case.kwargs, tuple(WrapperCall(name) for name in case.wrappers), case.evaluation_steps)


def _random(recipe: Recipe) -> float:
    """Mean return of random actions, of those that a mask allows."""
    from pgkeras import environments

    env = environments.make_one(recipe)
    env.action_space.seed(0)
    returns = []
    for episode in range(_EPISODES):
        _, info = env.reset(seed=_EVALUATION_SEED + episode)
        total, over = 0.0, False
        while not over:
            masks = (info["action_mask"].astype(np.int8),) if "action_mask" in info else ()
            _, reward, terminated, truncated, info = env.step(env.action_space.sample(*masks))
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
        seeds = {run["seed"] for run in runs if (run["case"], run["learner"]) == (case, "pgkeras")}
        figures = {name: "" if mean is None else f"{mean:,.2f}" for name, mean in means.items()}
        rows.append({"environment": case, "seeds": len(seeds), **figures, "ahead or level": "yes" if level else ""})
    return f"{table(rows)}\n\nAhead of or level with the better of the two in {ahead} of the {complete} that are in."


def _level(ours: float, best: float, random: float | None) -> bool:
    """Whether it is at least the best, less a fiftieth of what there is between that and random play."""
    return ours >= best - 0.02 * abs(best - (best if random is None else random))


def _mean(runs: list[dict[str, Any]], case: str, learner: str) -> float | None:
    values = [run["greedy"] for run in runs if (run["case"], run["learner"]) == (case, learner)]
    return float(np.mean(values)) if values else None


if __name__ == "__main__":
    main()
