"""Small runs, and how to compare them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pgkeras.runs.training import Training
from pgkeras.settings.config import Config

TIMES = {"seconds", "collect_seconds", "learn_seconds", "steps_per_second"}


def small(**settings: Any) -> Config:
    """A run of a few milliseconds an epoch that is never solved."""
    chosen = {"envs": 4, "episodes": 6, "hidden": (8,), "stop_return": 1e6, "steps": 1500, "checkpoint_seconds": 0}
    return Config(**{"env_id": "CartPole-v1"} | chosen | settings)


def run_to_end(training: Training) -> Training:
    for _ in training:
        pass
    training.finish()
    return training


def assert_same_state(a: Training, b: Training) -> None:
    """All that a run goes on from, to the bit."""
    assert_same_arrays(a._state(), b._state())


def assert_same_arrays(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> None:
    assert set(a) == set(b)
    for name in set(a) - TIMES:
        np.testing.assert_array_equal(a[name], b[name], name)


def without_times(metrics: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k not in TIMES} for line in metrics]
