"""Wall-clock time of ``pgkeras train CartPole-v1``, from the shell's prompt to the exported policy.

``python -m benchmarks.wall`` runs the command several times, each in a new process and directory, and prints the parts
of the time. ``--peers`` alternates with Stable-Baselines3's PPO for the same task, until the same criterion is met (see
``benchmarks.cartpole``); it exports nothing. ``--wrong`` measures the time until an error message for invalid input.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import peers
from benchmarks.report import spread, table, write_json

_PEER = "sb3-ppo"
_WRONG = {
    "an unknown option": ["CartPole-v1", "--no-such-option"],
    "an unknown setting": ["CartPole-v1", "--set", "gama=0.9"],
    "an environment that does not exist": ["CartPoll-v1"],
    "a run directory that is taken": ["CartPole-v1", "--out", "taken"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds")
    parser.add_argument("--peers", action="store_true", help="alternate with Stable-Baselines3's script")
    parser.add_argument("--wrong", action="store_true", help="measure invalid input instead")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()
    if options.wrong:
        rows = [
            {"wrong": what, "seconds": spread([_wrong(given) for _ in range(options.rounds)])}
            for what, given in _WRONG.items()
        ]
        print(table(rows))
        write_json(options.json, "python -m benchmarks.wall --wrong", rows)
        return
    python = peers.environment() if options.peers else None
    ours, training, setup, theirs = [], [], [], []
    for seed in range(options.rounds):
        with tempfile.TemporaryDirectory() as directory:
            began = time.perf_counter()
            _train(directory, "CartPole-v1", "--seed", str(seed), "--out", "run").check_returncode()
            ours.append(time.perf_counter() - began)
            summary = json.loads((Path(directory) / "run" / "summary.json").read_text())
            training.append(summary["train_seconds"])
            setup.append(summary["setup_seconds"])
        if python is not None:
            began = time.perf_counter()
            peers.run(python, _PEER, seed, 600.0, 1_000_000, threads=1)
            theirs.append(time.perf_counter() - began)
    rows = [{"what": "pgkeras train CartPole-v1", "seconds": spread(ours)}]
    rows += [
        {"what": "of that, setup", "seconds": spread(setup)},
        {"what": "of that, training", "seconds": spread(training)},
    ]
    if theirs:
        ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
        rows += [
            {"what": f"{_PEER}, its script", "seconds": spread(theirs)},
            {"what": "ratio", "seconds": spread(ratios)},
        ]
    print(table(rows))
    write_json(options.json, "python -m benchmarks.wall", rows)


def _train(directory: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "pgkeras", "train", *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, check=False)


def _wrong(arguments: list[str]) -> float:
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "taken").mkdir()
        (Path(directory) / "taken" / "config.json").write_text("{}")
        began = time.perf_counter()
        finished = _train(directory, *arguments)
        seconds = time.perf_counter() - began
    assert finished.returncode in (1, 2), finished.stderr.decode()
    return seconds


if __name__ == "__main__":
    main()
