"""The greedy log-probability, compared with closed forms in float64."""

from __future__ import annotations

import itertools
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from pgkeras_serving.messages.greedy import greedy_log_prob

from pgkeras.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from pgkeras.spaces.spec import DistributionKind, PolicySpec

OBSERVATIONS = Discrete(1)
KUMARASWAMY = DistributionKind.KUMARASWAMY


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=6), st.integers(0, 5))
def test_categorical_is_the_log_softmax_at_the_mode(logits, shift):
    rows = np.array([logits, np.roll(logits, shift)])
    log_softmax = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    answer = {"probabilities": np.exp(log_softmax).astype(np.float32)}
    spec = PolicySpec(OBSERVATIONS, Discrete(len(logits)), DistributionKind.CATEGORICAL)
    result = greedy_log_prob(spec, answer)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, log_softmax[[0, 1], rows.argmax(axis=1)], atol=1e-5)


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=6), st.floats(-3, 3))
def test_gaussian_is_the_product_of_densities_at_the_mean(stddev, mean):
    density = math.prod(1 / (s * math.sqrt(2 * math.pi)) for s in stddev)
    array = np.array([stddev], np.float32)[..., None]
    space = Box(np.full(array.shape[1:], -1.0), np.full(array.shape[1:], 1.0), np.dtype(np.float32))
    spec = PolicySpec(OBSERVATIONS, space, DistributionKind.DIAGONAL_GAUSSIAN)
    result = greedy_log_prob(spec, {"mean": np.full_like(array, mean), "stddev": array})
    assert result.dtype == np.float32
    assert result.shape == (1,)
    np.testing.assert_allclose(result, [math.log(density)], atol=1e-4)


@given(st.lists(st.lists(st.floats(-5, 5), min_size=1, max_size=4), min_size=1, max_size=4))
def test_multi_categorical_is_the_most_probable_combination(logits):
    probabilities = [np.exp(row) / np.exp(row).sum() for row in map(np.array, logits)]
    nvec = np.array([len(row) for row in logits])
    spec = PolicySpec(OBSERVATIONS, MultiDiscrete(nvec, 0 * nvec), DistributionKind.MULTI_CATEGORICAL)
    best = max(math.prod(choice) for choice in itertools.product(*probabilities))
    result = greedy_log_prob(spec, {"probabilities": np.concatenate(probabilities).astype(np.float32)[np.newaxis]})
    np.testing.assert_allclose(result, [math.log(best)], atol=1e-5)


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_multi_bernoulli_is_the_most_probable_combination(p):
    spec = PolicySpec(OBSERVATIONS, MultiBinary((2, 2)), DistributionKind.MULTI_BERNOULLI)
    best = max(math.prod(choice) for choice in itertools.product(*((q, 1 - q) for q in p)))
    result = greedy_log_prob(spec, {"probabilities": np.array(p, np.float32).reshape(1, 2, 2)})
    np.testing.assert_allclose(result, [math.log(best)], atol=1e-5)


def slope_of_cdf(cdf, x, h):
    """The density at x, as the slope of the cumulative distribution function."""
    return (cdf(x + h) - cdf(x - h)) / (2 * h)


@given(st.floats(1.05, 20), st.floats(1.05, 20))
def test_kumaraswamy_is_the_peak_of_the_density(a, b):
    spec = PolicySpec(OBSERVATIONS, Box(np.full(2, -1.0), np.full(2, 3.0), np.dtype(np.float32)), KUMARASWAMY)
    x = (np.arange(20_000) + 0.5) / 20_000
    density = slope_of_cdf(lambda x: -((1 - x**a) ** b), x[5:-5], 1e-5) / 4
    result = greedy_log_prob(spec, {name: np.full((1, 2), value, np.float32) for name, value in (("a", a), ("b", b))})
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, [2 * np.log(density.max())], atol=1e-3)


def test_a_uniform_kumaraswamy_is_flat():
    spec = PolicySpec(OBSERVATIONS, Box(np.zeros(1), np.full(1, 2.0), np.dtype(np.float32)), KUMARASWAMY)
    one = np.ones((1, 1), np.float32)
    np.testing.assert_allclose(greedy_log_prob(spec, {"a": one, "b": one}), [math.log(1 / 2)], atol=1e-6)
    # b = 1: the density a x^(a - 1) is densest at the upper bound.
    np.testing.assert_allclose(greedy_log_prob(spec, {"a": 3 * one, "b": one}), [math.log(3 / 2)], atol=1e-6)


@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(0.1, 3)), min_size=4, max_size=4))
def test_squashed_gaussian_is_the_density_at_the_action_of_the_mean(components):
    space = Box(np.array([-1.0, 2, -np.inf, -np.inf]), np.array([4.0, np.inf, -0.5, np.inf]), np.dtype(np.float32))
    spec = PolicySpec(OBSERVATIONS, space, DistributionKind.SQUASHED_GAUSSIAN)
    mean, stddev = (np.array(column, np.float32) for column in zip(*components, strict=True))

    def action(u):
        return np.array([-1 + 2.5 * (np.tanh(u[0]) + 1), 2 + math.log1p(math.exp(u[1])),
                         -0.5 - math.log1p(math.exp(u[2])), u[3]])  # fmt: skip

    h = 1e-4
    probability = 2 * h / (stddev.astype(float) * math.sqrt(2 * math.pi))  # in the neighborhood of the mean
    width = np.abs(action(mean.astype(float) + h) - action(mean.astype(float) - h))
    result = greedy_log_prob(spec, {"mean": mean[np.newaxis], "stddev": stddev[np.newaxis]})
    np.testing.assert_allclose(result, [np.log(probability / width).sum()], atol=1e-4)
