"""A policy that has settled on something worse than what it began with."""

from __future__ import annotations

import pytest

from pgkeras.runs.collapse import has_collapsed


def metrics(epochs: int, entropy: float, returns: float) -> list[dict[str, float]]:
    """From entropy 1 and return 10 in a straight line."""
    shares = [i / (epochs - 1) for i in range(epochs)]
    return [{"entropy": 1 + s * (entropy - 1), "return_mean": 10 + s * (returns - 10)} for s in shares]


@pytest.mark.parametrize(
    ("epochs", "entropy", "returns", "collapsed"),
    [
        (100, 0.0, -50.0, True),
        (100, 0.0, 500.0, False),  # it has learnt
        (100, 0.5, -50.0, False),  # it still varies
        (5, 0.0, -50.0, False),  # too early to say
    ],
)
def test_it_hardly_varies_and_returns_less_than_at_the_start(
    epochs: int, entropy: float, returns: float, collapsed: bool
) -> None:
    line = metrics(epochs, entropy, returns)
    line[-5:] = [{"entropy": entropy, "return_mean": returns}] * min(5, epochs)
    assert has_collapsed(line) is collapsed


def test_the_entropy_of_a_density_may_be_negative() -> None:
    line = [{"entropy": 1.0, "return_mean": 10.0}] * 50 + [{"entropy": -1.0, "return_mean": -50.0}] * 50
    assert not has_collapsed(line)
