"""The greedy log-probability against closed forms, in float64."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from pgkeras_serving.greedy import greedy_log_prob

from pgkeras.spec import DistributionKind


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=6), st.integers(0, 5))
def test_categorical_is_the_log_softmax_at_the_mode(logits, shift):
    rows = np.array([logits, np.roll(logits, shift)])
    log_softmax = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    answer = {"probabilities": np.exp(log_softmax).astype(np.float32)}
    result = greedy_log_prob(DistributionKind.CATEGORICAL, answer)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, log_softmax[[0, 1], rows.argmax(axis=1)], atol=1e-5)


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=6), st.floats(-3, 3))
def test_gaussian_is_the_product_of_densities_at_the_mean(stddev, mean):
    density = math.prod(1 / (s * math.sqrt(2 * math.pi)) for s in stddev)
    array = np.array([stddev], np.float32)[..., None]
    result = greedy_log_prob(DistributionKind.DIAGONAL_GAUSSIAN, {"mean": np.full_like(array, mean), "stddev": array})
    assert result.dtype == np.float32
    assert result.shape == (1,)
    np.testing.assert_allclose(result, [math.log(density)], atol=1e-4)
