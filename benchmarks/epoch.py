"""Profile of an epoch: processor time of the parts of both phases, on one thread.

``python -m benchmarks.epoch`` trains a few environments with their presets for a few seconds each, and times each part.
"The rest" is not timed: the tape, returns, metrics.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.budget import config_of, in_process
from benchmarks.cases import Case
from benchmarks.report import table, write_json
from pgkeras.engines import noise
from pgkeras.environments.plain import PlainEnvironments
from pgkeras.environments.vector import VectorEnvironments
from pgkeras.reinforce.frozen_policy import FrozenPolicy
from pgkeras.reinforce.observation_statistics import ObservationStatistics
from pgkeras.reinforce.train_step import TrainStep
from pgkeras.reinforce.value import ValueFunction
from pgkeras.runs.training import Training
from pgkeras.settings.config import preset_for

CASES = ("CartPole-v1", "LunarLander-v3", "HalfCheetah-v5", "benchmarks.environments:MinAtar/Breakout-v1")
_WARM_UP = 3  # epochs

PARTS: dict[str, tuple[tuple[Any, str], ...]] = {
    "environments": tuple(
        (kind, name) for kind in (PlainEnvironments, VectorEnvironments) for name in ("reset", "step")
    ),
    "acting": ((FrozenPolicy, "act"),),
    "noise": ((noise, "draw"),),
    "gradient step": ((TrainStep, "__call__"),),
    "new weights for acting": ((FrozenPolicy, "freeze"),),
    "value network, predicting": ((ValueFunction, "predict"),),
    "value network, fitting": ((ValueFunction, "fit"),),
    "statistics of observations": ((ObservationStatistics, "update"),),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0, help="processor time of each environment")
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES), help="run only these environments")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(shares(options.one, options.seconds)))
        return
    found = {
        env_id: in_process("benchmarks.epoch", ["--seconds", str(options.seconds), "--one", env_id])
        for env_id in options.only
    }
    parts = [*PARTS, "the rest"]
    rows: list[dict[str, Any]] = [
        {"share of the time": part, **{env_id: f"{100 * of[part]:.0f} %" for env_id, of in found.items()}}
        for part in parts
    ]
    speeds = {env_id: f"{of['steps per second']:,.0f}" for env_id, of in found.items()}
    print(table([*rows, {"share of the time": "steps per second", **speeds}]))
    write_json(options.json, "python -m benchmarks.epoch", found)


def shares(env_id: str, seconds: float) -> dict[str, float]:
    """Returns the share of each part, and the total steps per second."""
    settings = {"evaluation_every": 0, "steps": 10**12}
    with clocks() as spent:
        training = Training(config_of(Case(env_id), 0, settings, preset_for(env_id)))
        epochs = iter(training)
        for _ in range(_WARM_UP):
            next(epochs)
        spent.clear()
        began, steps = time.process_time(), training.env_steps
        while time.process_time() - began < seconds:
            next(epochs)
        whole = time.process_time() - began
    found = {part: spent[part] / whole for part in PARTS}
    return {**found, "the rest": 1 - sum(found.values()), "steps per second": (training.env_steps - steps) / whole}


@contextmanager
def clocks() -> Iterator[dict[str, float]]:
    """Times each part. Yields the seconds of each so far."""
    spent: dict[str, float] = defaultdict(float)
    with ExitStack() as stack:
        for part, places in PARTS.items():
            for owner, name in places:
                stack.enter_context(patch.object(owner, name, _timed(getattr(owner, name), part, spent)))
        yield spent


def _timed(function: Callable[..., Any], part: str, spent: dict[str, float]) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Any:
        began = time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            spent[part] += time.process_time() - began

    return timed


if __name__ == "__main__":
    main()
