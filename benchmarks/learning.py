"""What is learnt: every row of docs/results.md, over several seeds.

``python -m benchmarks.learning`` trains each environment of ``benchmarks.rows`` by its default preset, each seed in a
process of its own, and appends one JSON line a run to ``docs/results.jsonl``. What is there already, with the settings
of today, is not run again; runs with other settings are left out of the table. At the end it writes the table into
``docs/results.md``. MuJoCo's environments need ``pip install "gymnasium[mujoco]"``, LunarLander
``pip install "gymnasium[box2d]"``.

Nothing stops early, so that figures are of final performance: a run that reached the goal and lost it again shows.
Beside them stands the policy that is exported, which is the one that did best in evaluations where the preset asks for
some.

A figure is the interquartile mean over seeds (the mean of the middle half) with its 95 % bootstrap interval, as
Agarwal et al. 2021 advise, "Deep reinforcement learning at the edge of the statistical precipice".
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import machine, table, write_below
from benchmarks.rows import DEFAULTS, ROWS, SOURCES
from pgkeras.evaluation import statistics
from pgkeras.settings.config import Config, preset_for, resolve

DOCS = Path(__file__).parent.parent / "docs"
_EVALUATION_EPISODES = 100
_EVALUATION_SEED = 1_000_000
_CURVE_POINTS = 50
_NEVER = 1e9  # a return that none of the environments can give
_DEFAULT = "default"
_BY_DEFAULT = """## By the defaults alone

With the preset that environments get which have none of their own (`--preset default`, the defaults of
`pgkeras/settings/config.py`; here `python -m benchmarks.learning --defaults`), beside what random actions
return, as the mean of 1,000 episodes."""
_MARKER = "<!-- made by python -m benchmarks.learning -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds, from 0 on")
    parser.add_argument("--only", nargs="*", choices=ROWS, default=list(ROWS), help="these environments alone")
    parser.add_argument("--defaults", action="store_true", help="by the default preset, those rows that are shown so")
    parser.add_argument("--one", nargs=3, metavar=("ENV", "PRESET", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        env_id, preset, seed = options.one
        print(json.dumps(_train(_config(env_id, int(seed), preset), preset)))
        return
    file = DOCS / "results.jsonl"
    runs = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    runs = [run for run in runs if _is_current(run)]
    finished = {(run["env_id"], run["preset"], run["seed"]) for run in runs}
    wanted = [(env_id, preset_for(env_id)) for env_id in options.only]
    if options.defaults:
        wanted = [(env_id, _DEFAULT) for env_id in DEFAULTS if env_id in options.only]
    for seed in range(options.seeds):  # breadth first: a row of one seed says more than none
        for env_id, preset in wanted:
            if (env_id, preset, seed) not in finished:
                runs.append(_train_in_process(env_id, preset, seed))
                with file.open("a") as stream:
                    stream.write(json.dumps(runs[-1]) + "\n")
                print(runs[-1], flush=True)
    sources = "\n".join(f"- {name}: {source}." for name, source in SOURCES.items())
    parts = [_table(runs), "Beside, from:", sources, _BY_DEFAULT, _defaults(runs)]
    write_below(DOCS / "results.md", _MARKER, "\n\n".join(parts))


def _config(env_id: str, seed: int, preset: str) -> Config:
    return resolve(env_id, preset, {"seed": seed, "stop_return": _NEVER})


def _is_current(run: dict[str, Any]) -> bool:
    """Whether the run is of a row and by the settings of today; one that is newer than the run was at its default."""
    env_id, seed = run["env_id"], run["seed"]
    preset = run.setdefault("preset", preset_for(env_id))
    if env_id not in ROWS or preset not in (_DEFAULT, preset_for(env_id)):
        return False
    kept = Config.from_json({**Config(env_id=env_id).to_json(), **run["config"]})
    return kept == _config(env_id, seed, preset)


def _train(config: Config, preset: str) -> dict[str, Any]:
    from pgkeras import engines, environments
    from pgkeras.evaluation import evaluation
    from pgkeras.policy.export import package_versions
    from pgkeras.runs.training import Training

    training = Training(config)
    curve = []
    for metrics in training:
        if metrics.env_steps * _CURVE_POINTS >= config.steps * (len(curve) + 1):
            curve.append([metrics.env_steps, round(metrics.mean_return_100, 2)])
            print(f"{config.env_id} seed {config.seed}:", *curve[-1], file=sys.stderr, flush=True)
    training.finish()

    def greedy_mean(which: str) -> float:
        with tempfile.TemporaryDirectory() as root:
            exported = training.export(root, which=which)
            actor = evaluation.EngineActor(exported.spec, engines.load(exported), "greedy")
        envs = environments.make(config.env_id, 10, "plain")
        return evaluation.evaluate(actor, envs, _EVALUATION_EPISODES, _EVALUATION_SEED).mean

    summary = training.summary()
    return {
        "preset": preset,
        **{key: summary[key] for key in ("env_id", "seed", "env_steps", "train_seconds", "mean_return_100")},
        "greedy_mean": greedy_mean("last"),
        "exported_greedy_mean": greedy_mean("best"),
        "curve": curve,
        "config": config.to_json(),
        "machine": machine(),
        "packages": package_versions(),
    }


def _train_in_process(env_id: str, preset: str, seed: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.learning", "--one", env_id, preset, str(seed)]
    process = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return result


def _table(runs: list[dict[str, Any]]) -> str:
    rows = []
    for env_id, beside in ROWS.items():
        of_env = _of(runs, env_id, preset_for(env_id))
        rows.append(
            {
                **_figures(env_id, of_env),
                "the same, of what is exported": _interquartile([_exported(run) for run in of_env]),
                "steps": f"{_config(env_id, 0, preset_for(env_id)).steps:,}",
                "seconds, median": f"{np.median([run['train_seconds'] for run in of_env]):,.0f}" if of_env else "",
                "beside": beside,
            }
        )
    return table(rows)


def _defaults(runs: list[dict[str, Any]]) -> str:
    return table(
        [
            {**_figures(env_id, _of(runs, env_id, _DEFAULT)), "at random": f"{random:,}"}
            for env_id, random in DEFAULTS.items()
        ]
    )


def _of(runs: list[dict[str, Any]], env_id: str, preset: str) -> list[dict[str, Any]]:
    return [run for run in runs if (run["env_id"], run["preset"]) == (env_id, preset)]


def _figures(env_id: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "environment": env_id,
        "seeds": len(runs) or "not yet run",
        "last 100 training episodes": _interquartile([run["mean_return_100"] for run in runs]),
        "100 greedy episodes": _interquartile([run["greedy_mean"] for run in runs]),
    }


def _exported(run: dict[str, Any]) -> float:
    mean: float = run.get("exported_greedy_mean", run["greedy_mean"])  # without evaluations the last one is exported
    return mean


def _interquartile(values: list[float]) -> str:
    digits = 1 if np.abs(values).max(initial=0) >= 10 else 2
    if len(values) < 2:
        return "".join(f"{value:,.{digits}f}" for value in values)
    data = np.array(values)
    low, high = statistics.bootstrap_interval([data])
    return f"{statistics.interquartile_mean(data):,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


if __name__ == "__main__":
    main()
