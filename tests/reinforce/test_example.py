"""The example ``reinforce_in_100_lines.py`` against the learner with the preset "textbook"."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from examples.reinforce_in_100_lines import Reinforce
from pgkeras.config import resolve
from pgkeras.training import Training

EXAMPLE = Path(__file__).parents[2] / "examples" / "reinforce_in_100_lines.py"
EPOCHS = 8


@pytest.mark.parametrize("seed", [0, 7])
def test_the_example_learns_the_weights_of_the_textbook_preset(seed: int) -> None:
    example = Reinforce("CartPole-v1", seed)
    returns = list(islice(example, EPOCHS))
    example.environment.close()
    training = Training(resolve("CartPole-v1", "textbook", {"seed": seed}))
    initial = training.policy.weights()
    metrics = list(islice(training, EPOCHS))
    training.finish()
    assert returns == [epoch.return_mean for epoch in metrics]
    for ours, theirs, before in zip(example.policy.weights(), training.policy.weights(), initial, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
        assert np.abs(theirs - before).max() > 1e-4  # the weights have changed


def test_tracing_the_policy_in_a_users_function_logs_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    example = Reinforce("CartPole-v1")
    with caplog.at_level("WARNING", logger="tensorflow"):
        next(iter(example))
    example.environment.close()
    assert not caplog.records


def test_the_example_fits_100_lines() -> None:
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 100
