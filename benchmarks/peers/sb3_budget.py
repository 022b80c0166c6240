"""Trains Stable-Baselines3 or SBX, with defaults or given settings, for a processor time or a number of steps.

Reads one JSON object from standard input, and prints the outcome as one line of JSON.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections import deque
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

_POINTS = 100  # points of a learning curve

sys.path.append(str(Path(__file__).parents[2]))  # for benchmarks.environments


def make(case: dict[str, Any], evaluation: bool = False) -> gymnasium.Env[Any, Any]:
    """Creates the environment of a case; see ``benchmarks.cases``."""
    module, _, env_id = case["env_id"].rpartition(":")
    if env_id.startswith("MinAtar/"):
        importlib.import_module("minatar.gym").register_envs()
    elif module:
        importlib.import_module(module)
    limit = {"max_episode_steps": case["evaluation_steps"]} if evaluation and case["evaluation_steps"] else {}
    env: gymnasium.Env[Any, Any] = gymnasium.make(env_id, **case["kwargs"], **limit)
    for wrapper in (*case["wrappers"], *case["peer_wrappers"]):
        where, _, name = wrapper.rpartition(":")
        env = getattr(importlib.import_module(where), name)(env)
    return env


def _activation(library: str, name: str) -> Any:
    """Returns an activation of the library by its name in torch."""
    if library == "sbx":
        return getattr(importlib.import_module("flax.linen"), name.lower())
    return getattr(importlib.import_module("torch.nn"), name)


def _mean(returns: Collection[float]) -> float | None:
    return sum(returns) / len(returns) if returns else None


def main() -> None:
    asked = json.load(sys.stdin)
    case = asked["case"]

    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    recent: deque[float] = deque(maxlen=100)
    curve: list[tuple[float, int, float | None]] = []

    class Stop(BaseCallback):
        """Ends training when the time has passed."""

        def _on_step(self) -> bool:
            recent.extend(info["episode"]["r"] for info in self.locals["infos"] if "episode" in info)
            spent = time.process_time() - began
            if spent >= asked["seconds"] * (len(curve) + 1) / _POINTS:
                curve.append((round(spent, 2), self.num_timesteps, _mean(recent)))
            solved = len(recent) == 100 and sum(recent) / 100 >= asked.get("stop_return", float("inf"))
            return not solved and spent < asked["seconds"]

    library = asked.get("library", "stable_baselines3")
    algorithm = getattr(importlib.import_module(library), asked["algorithm"])
    settings = dict(asked.get("settings", {}))
    copies, normalize = settings.pop("n_envs", 1), settings.pop("normalize", False)
    if activation := settings.get("policy_kwargs", {}).get("activation_fn"):
        settings["policy_kwargs"]["activation_fn"] = _activation(library, activation)
    environments: Any = DummyVecEnv([lambda: Monitor(make(case))] * copies)
    if normalize:
        environments = VecNormalize(environments, gamma=settings.get("gamma", 0.99))
    model = algorithm(case["peer_policy"], environments, seed=asked["seed"], device="cpu", **settings)
    began = time.process_time()
    model.learn(asked.get("steps", 10**9), callback=Stop())
    seconds = time.process_time() - began

    env, returns = make(case, evaluation=True), []
    for episode in range(asked["episodes"]):
        observation, _ = env.reset(seed=asked["evaluation_seed"] + episode)
        total, over = 0.0, False
        while not over:
            seen = environments.normalize_obs(observation) if normalize else observation
            action, _ = model.predict(seen, deterministic=True)
            choice = int(action) if np.ndim(action) == 0 else action
            observation, reward, terminated, truncated, _ = env.step(choice)
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    packages = ("stable_baselines3", "torch", "gymnasium", "numpy", *(("sbx_rl", "jax") if library == "sbx" else ()))
    print(
        json.dumps(
            {
                "steps": model.num_timesteps,
                "seconds": seconds,
                "last_100": _mean(recent),
                "greedy": _mean(returns),
                "curve": curve,
                "packages": {package: version(package) for package in packages},
            }
        )
    )


if __name__ == "__main__":
    main()
