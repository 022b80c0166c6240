"""Compares learning from connected simulators with the same learner in one process, and with a server that only plays.

``python -m benchmarks.remote [--seeds 10]`` needs the C++ client (``python -m conformance --client cpp`` builds it).
Rows:

- seconds of training until CartPole-v1 is solved (mean return of 475 over 100 episodes): in one process; from one C++
  simulator with 24 environments per message; from 24 C++ simulators with one environment each. They alternate, seed by
  seed. ``--peers`` adds RLlib's PPO with the external simulator of RLlib's example, in a separate virtual environment.
- environment steps per second during collection, in alternation with the same simulator and ``pgkeras serve``.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.report import machine, spread, table, write_json
from benchmarks.soak.server import SHIPPED
from conformance.clients import environment, find_all
from conformance.runner import play_cartpole
from conformance.servers import serve
from conformance.teaching import training
from pgkeras import runs

_SECONDS = 120


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds, from 0 on")
    parser.add_argument("--turns", type=int, default=5, help="number of measurements of steps per second")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--peers", action="store_true", help="also run RLlib's example")
    parser.add_argument("--peer-seeds", type=int, default=3, help="number of seeds of RLlib's example")
    parser.add_argument("--time-limit", type=float, default=300.0, help="seconds after which RLlib's run is stopped")
    options = parser.parse_args()
    print(machine())
    if options.peers:
        print(table(_peer(options.peer_seeds, options.time_limit)))
    found: dict[str, Any] = {"solved": solved(options.seeds), "steps": steps_per_second(options.turns)}
    write_json(options.json, "python -m benchmarks.remote", found)


def _peer(seeds: int, time_limit: float) -> list[dict[str, Any]]:
    python = peers.environment()
    rows = []
    for seed in range(seeds):
        run = peers.run(python, peers.EXTERNAL, seed, time_limit, max_steps=1_000_000, threads=1)
        outcome = "solved" if run["solved"] else f"given up at a mean return of {run['mean_return_100']}"
        rows.append({"RLlib, seed": seed, "": outcome, "seconds": f"{run['seconds']:.1f}", "steps": run["steps"]})
    return rows


def solved(seeds: int) -> dict[str, list[float | None]]:
    """Returns seconds of training until CartPole is solved; None for a run that did not solve it."""
    ways: dict[str, Callable[[int, Path], dict[str, Any]]] = {
        "one process": _in_process,
        "1 simulator, 24 environments": lambda seed, scratch: _taught(seed, scratch, 1, 24),
        "24 simulators, 1 environment": lambda seed, scratch: _taught(seed, scratch, 24, 1),
    }
    seconds: dict[str, list[float | None]] = {way: [] for way in ways}
    for seed in range(seeds):
        for way, run in ways.items():
            with tempfile.TemporaryDirectory() as scratch:
                seconds[way].append(run(seed, Path(scratch))["seconds_to_threshold"])
    rows = []
    for way, found in seconds.items():
        there = [one for one in found if one is not None]
        ratios = [b / a for a, b in zip(seconds["one process"], found, strict=True) if a is not None and b is not None]
        rows.append(
            {
                "CartPole-v1 to 475": way,
                "seeds": f"{len(there)} of {seeds}",
                "seconds of training": spread(there),
                "beside one process": f"{statistics.median(ratios):.2f}",
            }
        )
    print(table(rows))
    return seconds


def steps_per_second(turns: int) -> dict[str, list[tuple[float, float]]]:
    """Returns environment steps per second during the collection of a policy in training, and with a served policy."""
    shapes = [(1, 1), (1, 24), (1, 64), (1, 256), (8, 1), (64, 1)]
    found: dict[str, list[tuple[float, float]]] = {}
    for simulators, environments in shapes:
        name = f"{simulators} x {environments}"
        for turn in range(turns):
            with tempfile.TemporaryDirectory() as scratch:
                learning = _collected(turn, Path(scratch), simulators, environments)
                served = _served(Path(scratch), simulators, environments)
            found.setdefault(name, []).append((learning, served))
    rows = [
        {
            "simulators x environments": name,
            "in training, steps/s": f"{statistics.median(a for a, _ in pairs):,.0f}",
            "served, steps/s": f"{statistics.median(b for _, b in pairs):,.0f}",
            "share": f"{statistics.median(a / b for a, b in pairs):.2f}",
        }
        for name, pairs in found.items()
    ]
    print(table(rows))
    return found


def _in_process(seed: int, scratch: Path) -> dict[str, Any]:
    command = ["pgkeras", "train", "CartPole-v1", "--seed", str(seed), "--stop-return", "475", "--no-export"]
    command += ["--out", str(scratch / "run")]
    subprocess.run(command, env=environment(), check=True, timeout=_SECONDS, capture_output=True)
    return runs.read_summary(scratch / "run")


def _taught(seed: int, scratch: Path, simulators: int, environments: int, *options: str) -> dict[str, Any]:
    with training(scratch, "--seed", str(seed), "--no-export", *options) as run, contextlib.ExitStack() as stack:
        command = [str(_simulator()), "--target", run.target, "--teach", str(environments)]
        for _ in range(simulators):
            stack.enter_context(_process(command))
        run.process.wait(_SECONDS)
    return runs.read_summary(scratch / "run")


def _collected(seed: int, scratch: Path, simulators: int, environments: int) -> float:
    slots = str(simulators * environments)
    options = ("--set", f"envs={slots}", "--set", f"episodes={slots}", "--set", "stop_return=1e9", "--time-limit", "4")
    _taught(seed, scratch, simulators, environments, *options)
    lines = runs.read_metrics(scratch / "run")[1:]
    before, after = lines[0]["env_steps"], lines[-1]["env_steps"]
    steps = after - before + sum(line["idle_steps"] for line in lines[1:])
    return float(steps / sum(line["collect_seconds"] for line in lines[1:]))


def _served(scratch: Path, simulators: int, environments: int) -> float:
    directory = next(client.directory for client in find_all() if client.name == "cpp")
    steps = max(500, 20_000 // (simulators * environments))
    with serve(SHIPPED, scratch) as server:
        command = [
            str(_simulator()),
            "--target",
            server.target,
            "--environments",
            str(environments),
            "--steps",
            str(steps),
        ]
        others = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(simulators - 1)]
        flags = ("--environments", str(environments), "--steps", str(steps))
        rates = [play_cartpole([str(_simulator())], server.target, directory, *flags)]
        for other in others:
            other.communicate(timeout=_SECONDS)
    return rates[0]["environment_steps_per_second"] * simulators


@contextlib.contextmanager
def _process(command: list[str]) -> Any:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _simulator() -> Path:
    program = Path(__file__).parents[1] / "clients" / "cpp" / "build" / "cartpole"
    if not program.exists():
        raise SystemExit(f"{program} is missing; build it with: python -m conformance --client cpp")
    return program


if __name__ == "__main__":
    main()
