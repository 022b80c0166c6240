"""Compares collection on Ray with collection in one process: steps per second, and the cost of transfers.

``python -m benchmarks.scale`` needs ``pip install "pgkeras[ray]"`` and MuJoCo. The same episodes of each environment
are collected in alternation: in this process, by ``async`` workers, and by one or more Ray actors, up to one per core.
The policy is the default network, untrained and frozen, because learning does not depend on where episodes are played.
``--plot FILE`` plots a model based on these costs. With n actors of k environments, and n k episodes per epoch, an
epoch takes the time of one actor's k episodes, plus for each actor a call and the transfer of its episodes, which the
driver makes in sequence.
"""

from __future__ import annotations

import argparse
import os
import pickle
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import machine, table, write_json
from pgkeras.policy import Policy
from pgkeras.reinforce import FrozenPolicy
from pgkeras.runs.sources import source_of
from pgkeras.settings.config import Config

_ENVIRONMENTS = ("LunarLander-v3", "HalfCheetah-v5")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", type=int, default=16, help="copies of each environment, and episodes per epoch")
    parser.add_argument("--turns", type=int, default=5, help="number of measurements")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--plot", type=Path, help="plot the model to this file")
    options = parser.parse_args()
    print(machine())
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    found = {env_id: _measured(env_id, options.envs, options.turns) for env_id in _ENVIRONMENTS}
    for env_id, ways in found.items():
        print(f"\n{env_id}\n" + table(_rows(ways)))
    if options.plot:
        _plot(found, options.plot)
    write_json(options.json, "python -m benchmarks.scale", found)


def _measured(env_id: str, envs: int, turns: int) -> dict[str, dict[str, Any]]:
    cores = os.cpu_count() or 1
    ways: dict[str, dict[str, Any]] = {
        "one process": {"vectorization": "plain"},
        "async, 1 worker": {"vectorization": "async", "env_workers": 1},
        f"async, {cores} workers": {"vectorization": "async", "env_workers": cores},
        **{f"Ray, {n} actor{'s' * (n > 1)}": {"collect": "ray", "ray_actors": n} for n in sorted({1, cores})},
    }
    import ray

    # All variants exist at the same time, and alternate.
    ray.init(num_cpus=1 + cores, include_dashboard=False, log_to_driver=False)
    sources, collectors = [], {}
    try:
        for way, settings in ways.items():
            config = Config(env_id=env_id, envs=envs, episodes=envs, **settings)
            source = source_of(config)
            sources.append(source)
            policy = Policy(source.observation_space, source.action_space)
            collectors[way] = source.collector(FrozenPolicy(policy, "litert"))
            collectors[way].collect(envs, np.random.SeedSequence(0))
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for turn in range(turns):
            for way, collector in collectors.items():
                began = time.perf_counter()
                trajectory = collector.collect(envs, np.random.SeedSequence(1 + turn))
                rates[way].append(trajectory.steps / (time.perf_counter() - began))
        weights = pickle.dumps(policy.weights(), protocol=5)
        episodes = pickle.dumps(trajectory, protocol=5)
        costs = {
            "call_ms": _call_ms(ray, None, None),
            "transfer_ms": _call_ms(ray, policy.weights(), trajectory),
        }
        return {
            way: {
                "steps_per_second": rates[way],
                "weight_bytes": len(weights),
                "episode_bytes": len(episodes),
                "steps": trajectory.steps,
                "episodes": envs,
                **(costs if "Ray" in way else {}),
            }
            for way in ways
        }
    finally:
        for source in sources:
            source.close()
        ray.shutdown()


def _call_ms(ray: Any, weights: Any, trajectory: Any) -> float:
    """Returns the milliseconds to send weights to an actor and an epoch's episodes back: the median of 20 calls."""

    class Mirror:
        def answer(self, given: Any, wanted: Any) -> Any:
            return wanted

    actor = ray.remote(num_cpus=0)(Mirror).remote()
    episodes = ray.put(trajectory)
    taken = []
    for _ in range(20):
        began = time.perf_counter()
        ray.get(actor.answer.remote(ray.put(weights), episodes))
        taken.append(1e3 * (time.perf_counter() - began))
    ray.kill(actor)
    return statistics.median(taken)


def _rows(ways: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
    alone = ways["one process"]["steps_per_second"]
    rows = []
    for way, found in ways.items():
        shares = [rate / one for rate, one in zip(found["steps_per_second"], alone, strict=True)]
        rows.append(
            {
                "": way,
                "steps/s": f"{statistics.median(found['steps_per_second']):,.0f}",
                "beside one process": f"{statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})",
                "weights, kB": f"{found['weight_bytes'] / 1e3:.0f}",
                "episodes, kB": f"{found['episode_bytes'] / 1e3:.0f}",
                "call, ms": f"{found['call_ms']:.1f}" if "call_ms" in found else "",
                "with weights and episodes, ms": f"{found['transfer_ms']:.1f}" if "transfer_ms" in found else "",
            }
        )
    return rows


def _plot(found: dict[str, dict[str, dict[str, Any]]], path: Path) -> None:
    """Plots steps per second over the number of actors: computed from the measured costs, and as measured."""
    from matplotlib import pyplot as plt

    actors = np.unique(np.geomspace(1, 1000, 60).astype(int))
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for env_id, ways in found.items():
        ray = next(way for name, way in ways.items() if name == "Ray, 1 actor")
        episode_steps = ray["steps"] / ray["episodes"]
        episode_seconds = episode_steps / statistics.median(ways["one process"]["steps_per_second"])
        call, moved = ray["call_ms"] / 1e3, (ray["transfer_ms"] - ray["call_ms"]) / 1e3 / ray["episodes"]
        for each, style in ((1, ":"), (16, "-")):
            seconds = each * episode_seconds + actors * (call + each * moved)
            label = f"{env_id}, {each} environment{'s' * (each > 1)} an actor"
            axes.plot(actors, each * actors * episode_steps / seconds, style, label=label)
        for name, way in ways.items():
            if name.startswith("Ray"):
                axes.plot(int(name.split()[1]), statistics.median(way["steps_per_second"]), "o", color="black")
    axes.set(xscale="log", yscale="log", xlabel="actors", ylabel="steps per second")
    axes.set_title("Collecting on Ray: points measured, lines computed from measured costs")
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
