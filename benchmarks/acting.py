"""Time of an action during training with LiteRT and with TensorFlow, the engines of ``act_engine=auto``.

``python -m benchmarks.acting`` times one call for a batch of observations with the engines in alternation, for an MLP
and for the two image networks. The fastest call is the time of the engine; the median includes the load of the machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from benchmarks.gpu import CASES, space
from benchmarks.report import machine, table, write_json
from pgkeras.engines import noise as noise_source
from pgkeras.policy.policy import Policy
from pgkeras.reinforce.frozen_policy import FrozenPolicy
from pgkeras.settings.groups import NetworkSettings
from pgkeras.spaces import Discrete
from pgkeras.spaces.random_observations import random_observations

_NETWORKS = ("mlp", "cnn", "nature-cnn")
_ENGINES = ("litert", "tensorflow")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=32, help="observations per call")
    parser.add_argument("--calls", type=int, default=200, help="calls of each engine, in alternation")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args()
    print(machine(), flush=True)
    results = [_row(network, options.rows, options.calls) for network in _NETWORKS]
    print(table(results))
    write_json(options.json, f"python -m benchmarks.acting --rows {options.rows} --calls {options.calls}", results)


def _row(network: str, rows: int, calls: int) -> dict[str, str]:
    case = CASES[network]
    policy = Policy(space(case), Discrete(6), settings=NetworkSettings(**case.settings))
    generator = np.random.default_rng(0)
    observation = random_observations(policy.spec.layout, rows, generator)
    noise = noise_source.draw(generator, policy.spec, rows)
    actors = {engine: FrozenPolicy(policy, engine) for engine in _ENGINES}
    seconds: dict[str, list[float]] = {engine: [] for engine in _ENGINES}
    for actor in actors.values():
        actor.act(observation, noise)  # the first call initializes the engine
    for _ in range(calls):
        for engine, actor in actors.items():
            began = time.perf_counter()
            actor.act(observation, noise)
            seconds[engine].append(time.perf_counter() - began)
    times = {
        f"{engine}, ms: fastest (median)": f"{1e3 * min(taken):.2f} ({1e3 * statistics.median(taken):.2f})"
        for engine, taken in seconds.items()
    }
    return {"network": network, **times, "auto takes": FrozenPolicy(policy).engine}


if __name__ == "__main__":
    main()
