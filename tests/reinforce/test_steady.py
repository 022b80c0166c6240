"""A long run does not retrace functions, and its memory does not grow."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

from pgkeras.runs.training import Training
from tests.runs.small import small

EPOCHS = 1000
WARM = 400  # epochs after which all memory has been allocated
MOST_MIB = 8.0


def resident_mib() -> float:
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident memory is read from Linux's /proc")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {
            "baseline": "value",
            "normalize_observations": True,
            "evaluation_every": 10,
            "loggers": ("csv", "tensorboard"),
        },
        {"memory": "gru", "memory_units": 8},
    ],
    ids=["plain", "value", "gru"],
)
def test_a_thousand_epochs_neither_retrace_nor_leak(tmp_path: Path, settings: dict[str, Any]) -> None:
    # With such a small learning rate, the policy and the lengths of episodes do not change, and so the memory should
    # not.
    config = small(steps=10**9, learning_rate=1e-12, checkpoint_seconds=1, **settings)
    training = Training(config, tmp_path / "run")
    value = training._learner._baseline._value
    warm = traces = 0.0
    for metrics in training:
        if metrics.epoch == WARM:
            warm = resident_mib()
            traces = sum(f.experimental_get_tracing_count() for f in (value._predict, value._fit)) if value else 0
        if metrics.epoch == WARM + EPOCHS:
            break
    grown = resident_mib() - warm
    assert training._learner._step.traces == 1
    if value is not None:
        assert sum(f.experimental_get_tracing_count() for f in (value._predict, value._fit)) == traces == 2
    assert grown < MOST_MIB, f"resident memory grew by {grown:.1f} MiB"

    training.finish()
