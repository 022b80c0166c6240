"""Robust means, intervals and grids, against sorting by hand and the intervals' own promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgkeras.evaluation import statistics


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=23))
def test_interquartile_mean_is_the_mean_of_the_middle(values: list[float]) -> None:
    ordered = sorted(values)
    cut = int(0.25 * len(ordered))
    middle = ordered[cut : len(ordered) - cut]
    got = statistics.interquartile_mean(np.array(values))
    assert float(got) == pytest.approx(sum(middle) / len(middle), rel=1e-9, abs=1e-6)


def test_interquartile_mean_by_hand() -> None:
    # Of 1, 2, 3, 4, 90 one is cut off at either end: (2 + 3 + 4)/3. Columns are apart from each other.
    column = np.array([90.0, 2, 1, 4, 3])
    assert statistics.interquartile_mean(column) == 3.0
    np.testing.assert_array_equal(statistics.interquartile_mean(np.stack([column, -column], axis=1)), [3.0, -3.0])
    assert statistics.interquartile_mean(np.array([1.0, 2, 6])) == 3.0


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    held = 0
    for i in range(400):
        low, high = statistics.bootstrap_interval(
            [generator.normal(3, 2, 40)], statistics.mean, confidence=0.9, resamples=400, seed=i
        )
        held += low <= 3 <= high
    assert 0.85 < held / 400 < 0.95  # the percentile bootstrap of 40 is a little too narrow


def test_below_the_fewest_runs_an_interval_holds_the_truth_far_too_rarely() -> None:
    generator = np.random.default_rng(0)

    def share(runs: int) -> float:
        held = 0
        for i in range(400):
            low, high = statistics.bootstrap_interval([generator.normal(3, 2, runs)], resamples=400, seed=i)
            held += low <= 3 <= high
        return held / 400

    assert share(2) < share(3) < 0.75
    assert share(statistics.FEWEST_RUNS) > 0.75


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(1).normal(0, 5, 1000)
    low, high = statistics.bootstrap_interval([values], statistics.mean)
    half = 1.96 * values.std() / np.sqrt(1000)
    assert (float(low), float(high)) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)


def test_strata_keep_their_share() -> None:
    # Two environments, each with runs that agree: whatever is drawn, each is there as often, and nothing varies.
    low, high = statistics.bootstrap_interval([np.zeros(5), np.full(3, 8.0)], statistics.mean, resamples=200)
    assert low == high == 3.0
    # All in one stratum, they vary.
    low, high = statistics.bootstrap_interval([np.array([0.0] * 5 + [8.0] * 3)], statistics.mean, resamples=200)
    assert low < 3.0 < high


def test_a_runs_values_are_drawn_together() -> None:
    # Of two curves that mirror each other, the sum at any two points stays what it is for each draw.
    curves = np.array([[1.0, -1.0], [5.0, -5.0], [2.0, -2.0]])
    low, high = statistics.bootstrap_interval([curves], statistics.mean, resamples=500)
    assert low.shape == (2,)
    np.testing.assert_allclose(low, -high[::-1])


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).normal(size=(6, 10))
    whole = statistics.bootstrap_interval([values], resamples=300)
    monkeypatch.setattr(statistics, "_CHUNK", 60 * 7)
    in_pieces = statistics.bootstrap_interval([values], resamples=300)
    np.testing.assert_allclose(whole, in_pieces)


def test_curves_on_a_common_grid() -> None:
    # The grid begins where the later one begins, and a curve that ends early keeps its last value.
    grid, values = statistics.on_grid([([0, 10], [0.0, 10.0]), ([4, 8, 20], [1.0, 5.0, 5.0])], 5)
    np.testing.assert_array_equal(grid, [4, 8, 12, 16, 20])
    np.testing.assert_allclose(values, [[4, 8, 10, 10, 10], [1, 5, 5, 5, 5]])


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9), st.lists(st.integers(-3, 3), min_size=1, max_size=9))
def test_the_probability_of_improvement_counts_pairs(ours: list[int], theirs: list[int]) -> None:
    wins = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a in ours for b in theirs)
    got = statistics.probability_of_improvement(np.array(ours, float), np.array(theirs, float))
    assert got == pytest.approx(wins / (len(ours) * len(theirs)))
    back = statistics.probability_of_improvement(np.array(theirs, float), np.array(ours, float))
    assert got + back == pytest.approx(1.0)


def test_its_interval_holds_a_half_where_there_is_no_difference_and_not_where_there_is() -> None:
    generator = np.random.default_rng(1)
    held = 0
    for i in range(100):
        low, high = statistics.improvement_interval(
            generator.normal(size=10), generator.normal(size=10), confidence=0.9, resamples=200, seed=i
        )
        held += low <= 0.5 <= high
    assert held >= 80
    low, high = statistics.improvement_interval(np.arange(10.0, 20.0), np.arange(5.0))
    assert (low, high) == (1.0, 1.0)


def test_the_band_of_few_runs_is_their_range_and_that_of_more_is_narrower() -> None:
    values = np.random.default_rng(0).normal(size=(8, 20))
    for runs in (2, 3, 4):
        low, high = statistics.band(values[:runs])
        np.testing.assert_array_equal([low, high], [values[:runs].min(axis=0), values[:runs].max(axis=0)])
    low, high = statistics.band(values)
    np.testing.assert_array_equal([low, high], statistics.bootstrap_interval([values]))
    assert ((values.min(axis=0) < low) & (low < high) & (high < values.max(axis=0))).all()
