"""Time until CartPole-v1 is solved: the mean return of the last 100 training episodes reaches 475.

``python -m benchmarks.cartpole --seeds 10`` trains every seed in a separate process. Seconds of training include
everything from the first episode on, including the first trace of the gradient step. Imports and setup (creating the
environments and the network, converting the act graph) are reported separately. ``--peers`` alternates with other
libraries under the same criterion, in a separate virtual environment, and prints ratios to pgkeras.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.report import machine, spread, table, write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds, from 0 on")
    parser.add_argument("--preset", help="a preset other than the environment's")
    parser.add_argument("--peers", action="store_true", help="also run the peers")
    parser.add_argument("--peer-seeds", type=int, default=3, help="number of seeds of the peers")
    parser.add_argument("--time-limit", type=float, default=150.0, help="seconds after which a peer's run is stopped")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--one", type=int, metavar="SEED", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(_train(options.one, options.preset)))
        return

    print(machine())
    python = peers.environment() if options.peers else None
    runs: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        runs.append(_train_in_process(seed, options.preset))
        print(_line(runs[-1]), flush=True)
        if python is not None and seed < options.peer_seeds:
            for peer in peers.PEERS:
                # One thread, because torch's threads slow each other down with networks this small.
                runs.append(peers.run(python, peer, seed, options.time_limit, max_steps=1_000_000, threads=1))
                print(_line(runs[-1]), flush=True)
    rows = _rows(runs)
    print("\n" + table(rows))
    if not all(run["solved"] for run in runs):
        print("A run that was stopped counts with its time limit: the true figures are higher.")
    write_json(options.json, "python -m benchmarks.cartpole " + " ".join(sys.argv[1:]), runs)


def _train(seed: int, preset: str | None) -> dict[str, Any]:
    began = time.perf_counter()
    from pgkeras.runs.training import Training
    from pgkeras.settings.config import resolve

    imported = time.perf_counter()
    training = Training(resolve("CartPole-v1", preset, {"seed": seed}))
    for _ in training:
        pass
    summary = training.summary()
    training.finish()
    return {
        "peer": "pgkeras",
        "seed": seed,
        "solved": summary["solved"],
        "seconds": training.seconds,
        "steps": training.env_steps,
        "episodes": training.episodes,
        "mean_return_100": summary["mean_return_100"],
        "import_seconds": imported - began,
        "setup_seconds": training.setup_seconds,
    }


def _train_in_process(seed: int, preset: str | None) -> dict[str, Any]:
    arguments = ["--one", str(seed), *(["--preset", preset] if preset else [])]
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.cartpole", *arguments], stdout=subprocess.PIPE, check=True, text=True
    )
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return result


def _line(run: dict[str, Any]) -> str:
    outcome = "solved" if run["solved"] else "not solved"
    return f"{run['peer']:<20} seed {run['seed']}: {outcome}, {run['seconds']:.2f} s, {run['steps']:,} steps"


def _rows(runs: list[dict[str, Any]]) -> list[dict[str, str]]:
    by_peer: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        by_peer.setdefault(run["peer"], []).append(run)
    ours = statistics.median(run["seconds"] for run in by_peer["pgkeras"])
    rows = []
    for peer, of_peer in by_peer.items():
        seconds = [run["seconds"] for run in of_peer]
        at_least = "" if all(run["solved"] for run in of_peer) else "> "
        rows.append(
            {
                "": peer,
                "solved": f"{sum(run['solved'] for run in of_peer)} of {len(of_peer)}",
                "seconds of training, median (range)": spread(seconds),
                "steps, median (range)": spread([run["steps"] for run in of_peer], 0),
                "imports, s": spread([r["import_seconds"] for r in of_peer], 1),
                "setup, s": spread([r["setup_seconds"] for r in of_peer], 1),
                "times pgkeras": f"{at_least}{statistics.median(seconds) / ours:.0f}",
            }
        )
    return rows


if __name__ == "__main__":
    main()
