"""Steps per second of whole training, as a share of the bare environment's with random actions.

``python -m benchmarks.training`` measures both in turn, several times, and prints the median of the ratios. Training is
everything from the first episode to the last gradient step; random play includes resets, as training does.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from benchmarks.report import machine, spread, table, write_json
from pgkeras.config import resolve
from pgkeras.training import Training

_NEVER = 1e9  # a return that is never reached, so that training goes on to its last step


@dataclass(frozen=True)
class Case:
    """One comparison."""

    name: str
    settings: dict[str, Any]
    preset: str | None
    bare: Callable[[int], float]
    goal: float


def single(steps: int) -> float:
    """Steps per second of one plain environment."""
    env = gymnasium.make("CartPole-v1", disable_env_checker=True)
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(2, size=steps).tolist()
    began = time.perf_counter()
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return steps / (time.perf_counter() - began)


def vector(steps: int, slots: int, mode: gymnasium.VectorizeMode) -> float:
    """Steps per second of a vector environment."""
    env = gymnasium.make_vec("CartPole-v1", slots, vectorization_mode=mode)
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(2, size=(steps // slots, slots))
    began = time.perf_counter()
    for row in actions:
        env.step(row)
    return actions.size / (time.perf_counter() - began)


_MODES = gymnasium.VectorizeMode
CASES = (
    Case(
        "vector entry point, 64 environments",
        {"envs": 64, "episodes": 64},
        None,
        lambda steps: vector(steps, 64, _MODES.VECTOR_ENTRY_POINT),
        0.2,
    ),
    Case(
        "8 plain environments, beside SyncVectorEnv",
        {"envs": 8, "episodes": 8, "vectorization": "plain"},
        None,
        lambda steps: vector(steps, 8, _MODES.SYNC),
        0.5,
    ),
    Case("1 environment, textbook preset", {}, "textbook", single, 0.3),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="how often each pair is measured")
    parser.add_argument("--steps", type=int, default=300_000, help="environment steps of each training run")
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args()
    print(machine())
    results = []
    for case in CASES:
        pairs = []
        for seed in range(options.repeats):
            bare = case.bare(options.steps // 3)
            settings = {"seed": seed, "steps": options.steps, "stop_return": _NEVER, **case.settings}
            training = Training(resolve("CartPole-v1", case.preset, settings))
            for _ in training:
                pass
            training.finish()
            pairs.append((bare, training.env_steps / training.seconds))
        shares = [trained / bare for bare, trained in pairs]
        results.append(
            {
                "case": case.name,
                "bare steps/s": f"{statistics.median(b for b, _ in pairs):,.0f}",
                "training steps/s": f"{statistics.median(t for _, t in pairs):,.0f}",
                "share, median (range)": spread(shares),
                "goal": f">= {case.goal:.2f}",
            }
        )
        print(results[-1], flush=True)
    print("\n" + table(results))
    write_json(options.json, "python -m benchmarks.training " + " ".join(sys.argv[1:]), results)


if __name__ == "__main__":
    main()
