"""What policy gradients can and value-based learning cannot, and the other way round: beside Stable-Baselines3's DQN.

``python -m benchmarks.values`` has three parts, each with the same seconds of processor time on one thread for both:
CartPole to 475, with DQN by RL Zoo's settings; one task with 2 to 10,000 actions and with a continuous one; and a task
whose best policy is a mixture. DQN is in an environment of its own (see ``benchmarks.peers``). The tables are in
docs/policy-gradients.md.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import asdict
from typing import Any

from benchmarks import peers
from benchmarks.cases import Case
from benchmarks.defaults import evaluation, train_for
from benchmarks.report import table
from pgkeras.settings.config import resolve

_AIM = "benchmarks.environments:Aim-v0"
_CORRIDOR = "benchmarks.environments:SwitchedCorridor-v0"
_GOAL = 475.0
_STEPS = 10**9  # of which DQN counts the share in which it explores less and less; seconds end it before
# By default a tenth of the steps; here of as many as it takes in the time, about.
_EXPLORATION = {"exploration_fraction": 5_000 / _STEPS}
# RL Baselines3 Zoo, hyperparams/dqn.yml, CartPole-v1; 0.16 of 50,000 steps.
_ZOO = {
    "learning_rate": 2.3e-3,
    "batch_size": 64,
    "buffer_size": 100_000,
    "learning_starts": 1_000,
    "gamma": 0.99,
    "target_update_interval": 10,
    "train_freq": 256,
    "gradient_steps": 128,
    "exploration_fraction": 8_000 / _STEPS,
    "exploration_final_eps": 0.04,
    "policy_kwargs": {"net_arch": [256, 256]},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="of processor time for each run")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds of CartPole, from 0 on")
    options = parser.parse_args()
    python = peers.environment()

    def dqn(case: Case, seed: int, seconds: float, **more: Any) -> dict[str, Any]:
        one_thread = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        asked = {"case": asdict(case), "algorithm": "DQN", "seed": seed, "seconds": seconds, **evaluation()}
        asked |= {"settings": _EXPLORATION} | more
        return peers.budget(python, asked, {**os.environ, **one_thread})

    if rows := [_cartpole(seed, dqn) for seed in range(options.seeds)]:
        print(f"CartPole-v1 to a mean of {_GOAL:g} over 100 episodes\n{table(rows)}\n", flush=True)
    rows = [_aim(choices, options.seconds, dqn) for choices in (2, 10, 100, 1_000, 10_000)]
    continuous = train_for(Case(_AIM, continuous=True), 0, options.seconds)
    rows.append({"actions": "continuous", **_of("pgkeras", continuous), **_of("DQN", None)})
    print(f"Eight shots, {options.seconds:g} s each; 8 is best\n{table(rows)}\n", flush=True)
    case = Case(_CORRIDOR, is_unlimited=True, evaluation_steps=1_000)
    ours, theirs = train_for(case, 0, options.seconds), dqn(case, 0, options.seconds)
    rows = [{"learner": name, **_both(run)} for name, run in (("pgkeras", ours), ("DQN", theirs))]
    print(f"The switched corridor; -11.6 is best\n{table(rows)}")


def _cartpole(seed: int, dqn: Any) -> dict[str, Any]:
    from pgkeras.runs.training import Training

    training = Training(resolve("CartPole-v1", None, {"seed": seed}))
    began = time.process_time()
    for _ in training:
        pass
    seconds = time.process_time() - began
    training.finish()
    theirs = dqn(Case("CartPole-v1"), seed, 120.0, settings=_ZOO, stop_return=_GOAL)
    return {
        "seed": seed,
        "pgkeras, seconds": f"{seconds:.1f}",
        "steps": f"{training.env_steps:,}",
        "DQN, seconds": f"{theirs['seconds']:.1f}",
        "DQN, steps": f"{theirs['steps']:,}",
        "DQN, last 100": f"{theirs['last_100']:.0f}",
        "DQN, greedy": f"{theirs['greedy']:.0f}",
    }


def _aim(choices: int, seconds: float, dqn: Any) -> dict[str, Any]:
    case = Case(_AIM, {"choices": choices})
    ours, theirs = train_for(case, 0, seconds), dqn(case, 0, seconds)
    return {"actions": f"{choices:,}", **_of("pgkeras", ours), **_of("DQN", theirs)}


def _of(name: str, run: dict[str, Any] | None) -> dict[str, str]:
    if run is None:
        return {f"{name}, return": "takes none", f"{name}, steps": ""}
    return {f"{name}, return": f"{run['greedy']:.2f}", f"{name}, steps": f"{run['steps']:,}"}


def _both(run: dict[str, Any]) -> dict[str, str]:
    return {"last 100 training episodes": f"{run['last_100']:,.1f}", "greedy": f"{run['greedy']:,.1f}"}


if __name__ == "__main__":
    main()
