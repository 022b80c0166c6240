"""Steps per second of training, compared with the bare environment with random actions, and with peers.

``python -m benchmarks.training`` alternates between both of a pair several times, and prints the median of the ratios.
Training is everything from the first episode to the last gradient step. Setup, which creates environments and graphs
and runs each graph once, is excluded. Random play includes resets, like training. ``--peers`` adds other libraries with
the same network and the same number of environments: each training runs in a separate process, with one thread and with
two, and the better result counts, for the peer and for pgkeras.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

import benchmarks.environments  # noqa: F401 - registers MinAtar
from benchmarks import peers
from benchmarks.budget import NEVER
from benchmarks.report import machine, spread, table, write_json
from pgkeras.runs.training import Training
from pgkeras.settings.config import resolve

_THREADS = (1, 2)  # in comparisons with a peer: the better speed counts
_PEER_ENVS = 8


@dataclass(frozen=True)
class Case:
    """A comparison of training with the bare environment."""

    name: str
    env_id: str
    settings: dict[str, Any]
    preset: str | None
    bare: Callable[[int], float]  # steps per second, measured over a number of steps
    steps: int
    goal: float


@dataclass(frozen=True)
class PeerCase:
    """A comparison of training with another library's."""

    name: str
    env_id: str
    settings: dict[str, Any]
    peer: str
    steps: int
    goal: float


def single(env_id: str, steps: int) -> float:
    """Returns the steps per second of one plain environment."""
    env = gymnasium.make(env_id, disable_env_checker=True)
    env.reset(seed=0)
    env.action_space.seed(0)
    sampled = [env.action_space.sample() for _ in range(min(steps, 10_000))]
    actions = [int(action) if isinstance(action, np.integer) else action for action in sampled]
    began = time.perf_counter()
    for i in range(steps):
        _, _, terminated, truncated, _ = env.step(actions[i % len(actions)])
        if terminated or truncated:
            env.reset()
    return steps / (time.perf_counter() - began)


def vector(env_id: str, steps: int, slots: int, mode: gymnasium.VectorizeMode) -> float:
    """Returns the steps per second of a vector environment with discrete actions."""
    env = gymnasium.make_vec(env_id, slots, vectorization_mode=mode)
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(env.single_action_space.n, size=(steps // slots, slots))
    began = time.perf_counter()
    for row in actions:
        env.step(row)
    return actions.size / (time.perf_counter() - began)


_MODES = gymnasium.VectorizeMode
_CARTPOLE = "CartPole-v1"
CASES = (
    Case(
        "vector entry point, 64 environments",
        _CARTPOLE,
        {"envs": 64, "episodes": 64},
        None,
        lambda steps: vector(_CARTPOLE, steps, 64, _MODES.VECTOR_ENTRY_POINT),
        300_000,
        0.2,
    ),
    Case(
        "8 plain environments, beside SyncVectorEnv",
        _CARTPOLE,
        {"envs": 8, "episodes": 8, "vectorization": "plain"},
        None,
        lambda steps: vector(_CARTPOLE, steps, 8, _MODES.SYNC),
        300_000,
        0.5,
    ),
    Case(
        "1 environment, textbook preset",
        _CARTPOLE,
        {},
        "textbook",
        lambda steps: single(_CARTPOLE, steps),
        300_000,
        0.3,
    ),
    Case(
        "LunarLander-v3, its preset",
        "LunarLander-v3",
        {},
        None,
        lambda steps: single("LunarLander-v3", steps),
        150_000,
        0.6,
    ),
    Case(
        "HalfCheetah-v5, its preset",
        "HalfCheetah-v5",
        {},
        None,
        lambda steps: single("HalfCheetah-v5", steps),
        100_000,
        0.6,
    ),
)
PEER_CASES = (
    PeerCase(
        "MinAtar Breakout, small CNN, beside Stable-Baselines3's A2C",
        "MinAtar/Breakout-v1",
        {"hidden": ()},
        "cnn",
        40_000,
        2.0,
    ),
    PeerCase(
        "CartPole-v1, 64 units and an LSTM of 64, beside sb3-contrib's recurrent PPO",
        _CARTPOLE,
        {"hidden": (64,), "memory": "lstm", "memory_units": 64, "vectorization": "plain"},
        "lstm",
        5_000,
        2.0,
    ),
)


def train(env_id: str, preset: str | None, seed: int, steps: int, settings: dict[str, Any]) -> float:
    """Returns the steps per second of pgkeras."""
    config = resolve(env_id, preset, {"seed": seed, "steps": steps, "stop_return": NEVER, **settings})
    training = Training(config)
    for _ in training:
        pass
    training.finish()
    return training.env_steps / training.seconds


def train_in_process(case: PeerCase, seed: int, threads: int) -> float:
    """Returns the steps per second of pgkeras in a separate process, like a peer's."""
    command = [sys.executable, "-m", "benchmarks.training", "--one", case.name, str(seed)]
    environ = os.environ | {"TF_NUM_INTRAOP_THREADS": str(threads)}
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environ)
    return float(json.loads(process.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each pair")
    parser.add_argument("--only", default="", help="measure only cases whose name contains this text")
    parser.add_argument("--peers", action="store_true", help="also measure other libraries")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--one", nargs=2, metavar=("CASE", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        case = next(case for case in PEER_CASES if case.name == options.one[0])
        settings = {"envs": _PEER_ENVS, "episodes": _PEER_ENVS, **case.settings}
        print(json.dumps(train(case.env_id, "default", int(options.one[1]), case.steps, settings)))
        return
    print(machine(), flush=True)
    results = []
    for bare_case in CASES:
        if options.only not in bare_case.name:
            continue
        c = bare_case
        pairs = [
            (c.bare(c.steps // 3), train(c.env_id, c.preset, seed, c.steps, c.settings))
            for seed in range(options.repeats)
        ]
        results.append(_row(c.name, "bare environment", pairs, c.goal))
    for peer_case in PEER_CASES if options.peers else ():
        if options.only not in peer_case.name:
            continue
        python = peers.environment()
        pairs = [
            (
                max(peers.speed(python, peer_case.peer, seed, peer_case.steps, _PEER_ENVS, n) for n in _THREADS),
                max(train_in_process(peer_case, seed, n) for n in _THREADS),
            )
            for seed in range(options.repeats)
        ]
        results.append(_row(peer_case.name, "peer", pairs, peer_case.goal))
    print("\n" + table(results))
    write_json(options.json, "python -m benchmarks.training " + " ".join(sys.argv[1:]), results)


def _row(name: str, beside: str, pairs: list[tuple[float, float]], goal: float) -> dict[str, Any]:
    row = {
        "case": name,
        "beside": beside,
        "its steps/s": f"{statistics.median(other for other, _ in pairs):,.0f}",
        "training steps/s": f"{statistics.median(own for _, own in pairs):,.0f}",
        "ratio, median (range)": spread([own / other for other, own in pairs]),
        "goal": f">= {goal:.2f}",
    }
    print(row, flush=True)
    return row


if __name__ == "__main__":
    main()
