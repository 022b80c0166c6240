"""What is learnt: every row of docs/results.md, over several seeds.

``python -m benchmarks.learning`` trains each environment of ``ROWS`` by its default preset, each seed in a process of
its own, and appends one JSON line a run to ``docs/results.jsonl``. What is there already is not run again: delete a
line to run it anew. At the end it writes the table into ``docs/results.md``. MuJoCo's environments need
``pip install "gymnasium[mujoco]"``.

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
from typing import Any, NamedTuple

import numpy as np

from benchmarks.report import machine, table
from pgkeras import statistics

DOCS = Path(__file__).parent.parent / "docs"
_EVALUATION_EPISODES = 100
_EVALUATION_SEED = 1_000_000
_MARKER = "<!-- made by python -m benchmarks.learning -->"


class Row(NamedTuple):
    """One environment."""

    steps: int
    beside: str  # what others report, and where


ROWS = {
    "CartPole-v1": Row(500_000, "SLM-Lab 5 REINFORCE 483.3 at 200k frames (its docs/BENCHMARKS.md)"),
    "Acrobot-v1": Row(500_000, "A2C -84.0 at 300k (SLM-Lab), -83.4 at 500k (RL Baselines3 Zoo)"),
    "InvertedPendulum-v5": Row(
        500_000, "REINFORCE 999.2, the best over 3M steps of v2 (Tianshou, examples/mujoco/README.md)"
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds, from 0 on")
    parser.add_argument("--only", nargs="*", choices=ROWS, default=list(ROWS), help="these environments alone")
    parser.add_argument("--one", nargs=2, metavar=("ENV", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(_train(options.one[0], int(options.one[1]))))
        return
    file = DOCS / "results.jsonl"
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    finished = {(run["env_id"], run["seed"]) for run in done}
    for env_id in options.only:
        for seed in range(options.seeds):
            if (env_id, seed) not in finished:
                done.append(_train_in_process(env_id, seed))
                with file.open("a") as stream:
                    stream.write(json.dumps(done[-1]) + "\n")
                print(done[-1], flush=True)
    document = DOCS / "results.md"
    head = document.read_text().partition(_MARKER)[0]
    document.write_text(f"{head}{_MARKER}\n\n{_table(done)}\n")


def _train(env_id: str, seed: int) -> dict[str, Any]:
    from pgkeras import engines, environments, evaluation
    from pgkeras.config import resolve
    from pgkeras.export import package_versions
    from pgkeras.training import Training

    training = Training(resolve(env_id, overrides={"seed": seed, "steps": ROWS[env_id].steps}))
    for _ in training:
        pass
    training.finish()
    with tempfile.TemporaryDirectory() as root:
        exported = training.export(root)
        actor = evaluation.EngineActor(exported.spec, engines.load(exported), "greedy")
    played = evaluation.evaluate(actor, environments.make(env_id, 10, "plain"), _EVALUATION_EPISODES, _EVALUATION_SEED)
    summary = training.summary()
    kept = ("env_id", "seed", "solved", "env_steps", "train_seconds", "mean_return_100")
    return {
        **{key: summary[key] for key in kept},
        "greedy_mean": played.mean,
        "machine": machine(),
        "packages": package_versions(),
    }


def _train_in_process(env_id: str, seed: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.learning", "--one", env_id, str(seed)]
    process = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return result


def _table(runs: list[dict[str, Any]]) -> str:
    rows = []
    for env_id, row in ROWS.items():
        of_env = [run for run in runs if run["env_id"] == env_id]
        if not of_env:
            rows.append({"environment": env_id, "seeds": "not yet run", "beside": row.beside})
            continue
        rows.append(
            {
                "environment": env_id,
                "seeds": len(of_env),
                "last 100 training episodes": _interquartile([run["mean_return_100"] for run in of_env]),
                "100 greedy episodes": _interquartile([run["greedy_mean"] for run in of_env]),
                "steps, median": f"{np.median([run['env_steps'] for run in of_env]):,.0f}",
                "seconds, median": f"{np.median([run['train_seconds'] for run in of_env]):.1f}",
                "beside": row.beside,
            }
        )
    return table(rows)


def _interquartile(values: list[float]) -> str:
    data = np.array(values)
    low, high = statistics.bootstrap_interval([data])
    return f"{statistics.interquartile_mean(data):.1f} ({low:.1f} to {high:.1f})"


if __name__ == "__main__":
    main()
