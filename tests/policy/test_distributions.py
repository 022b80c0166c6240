"""Distributions against closed forms written in NumPy float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from pgkeras.engines import noise
from pgkeras.errors import UnsupportedSpaceError
from pgkeras.policy import distributions
from pgkeras.policy.distributions import Categorical, DiagonalGaussian, Kumaraswamy, SquashedGaussian
from pgkeras.spaces import Box, Discrete
from pgkeras.spaces.spec import DistributionKind, PolicySpec

FLOAT32 = np.dtype(np.float32)
LAST_UNIFORM = np.float32(1 - 2.0**-24)  # the largest float32 below 1
UNBOUNDED = Box(np.full((2, 3), -np.inf), np.full((2, 3), np.inf), FLOAT32)


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def draw_categorical(logits: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Returns the sample of one row of logits for each uniform number."""
    rows = np.broadcast_to(logits.astype(np.float32), (len(u), len(logits)))
    return Categorical(len(logits)).sample(tf.constant(rows), tf.constant(u.astype(np.float32)[:, np.newaxis])).numpy()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_categorical_closed_forms(dtype: type) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, (50, 6)).astype(dtype)
    index = generator.integers(0, 6, 50)
    p = softmax(logits.astype(np.float64))
    distribution = Categorical(6)
    tolerance = 1e-5 if dtype is np.float32 else 1e-12
    log_prob = distribution.log_prob(tf.constant(logits), tf.constant(index)).numpy()
    np.testing.assert_allclose(log_prob, np.log(p[np.arange(50), index]), rtol=tolerance, atol=tolerance)
    entropy = -(p * np.log(p)).sum(axis=1)
    np.testing.assert_allclose(distribution.entropy(tf.constant(logits)), entropy, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(distribution.mode(tf.constant(logits)), p.argmax(axis=1))
    named = distribution.named_parameters(tf.constant(logits))
    np.testing.assert_allclose(named["probabilities"], p, rtol=tolerance)


def test_categorical_by_hand() -> None:
    # Logits ln 1, ln 2, ln 5 plus any constant: probabilities 1/8, 2/8, 5/8.
    logits = tf.constant([np.log([1.0, 2.0, 5.0]) + 40.0])
    entropy = math.log(8) - (2 * math.log(2) + 5 * math.log(5)) / 8
    assert Categorical(3).entropy(logits).numpy()[0] == pytest.approx(entropy)
    assert Categorical(3).log_prob(logits, tf.constant([1], tf.int64)).numpy()[0] == pytest.approx(math.log(0.25))


def test_log_probabilities_are_finite_if_probabilities_underflow() -> None:
    # softmax([0, -200]) in float32 is (1, 0), and its logarithm would be -inf.
    logits = tf.constant([[0.0, -200.0], [1e30, -1e30]])
    log_prob = Categorical(2).log_prob(logits, tf.constant([1, 0], tf.int64)).numpy()
    np.testing.assert_allclose(log_prob, [-200.0, 0.0])
    np.testing.assert_allclose(Categorical(2).entropy(logits), [0.0, 0.0], atol=1e-30)


def test_the_mode_is_the_first_of_equal_logits() -> None:
    assert Categorical(3).mode(tf.constant([[1.0, 2.0, 2.0]])).numpy().tolist() == [1]


def test_categorical_frequencies() -> None:
    logits = np.array([0.0, 1.0, -2.0, 0.5, 0.0])
    spec = PolicySpec(UNBOUNDED, Discrete(5), DistributionKind.CATEGORICAL)
    n = 200_000
    counts = np.bincount(draw_categorical(logits, noise.draw(noise.seeded(7), spec, n)[:, 0]), minlength=5)
    expected = n * softmax(logits)
    # Chi-square with 4 degrees of freedom: its 99.9 % point is 18.47.
    assert ((counts - expected) ** 2 / expected).sum() < 18.47


def test_categorical_samples_are_the_inverse_cdf() -> None:
    # Probabilities 1/4, 1/2, 1/4: F is 0.25, 0.75, 1.
    u = np.array([0.0, 0.2499, 0.2501, 0.5, 0.7499, 0.7501, LAST_UNIFORM])
    assert draw_categorical(np.log([1.0, 2.0, 1.0]), u).tolist() == [0, 0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize("n", [1, 2, 3, 7, 100, 1000])
@pytest.mark.parametrize("spread", [0.0, 1.0, 20.0])
def test_extreme_noise_gives_valid_indices(n: int, spread: float) -> None:
    logits = np.random.default_rng(n).normal(0, spread, (200, n)).astype(np.float32)
    # The library never draws 1, but a client that rounds differently may send it.
    for u in (0.0, float(LAST_UNIFORM), 1.0):
        index = Categorical(n).sample(tf.constant(logits), tf.fill([200, 1], np.float32(u))).numpy()
        assert index.min() >= 0
        assert index.max() < n
        assert (np.take_along_axis(softmax(logits), index[:, np.newaxis], axis=1) > 0).all()


@pytest.mark.parametrize("impossible", [[0], [3], [0, 3], [0, 1], [2, 3], [1, 2], [0, 1, 3]])
def test_an_action_of_probability_zero_is_never_sampled(impossible: list[int]) -> None:
    logits = np.zeros(4)
    logits[impossible] = -1e9
    u = np.concatenate([[0.0, 2.0**-24, LAST_UNIFORM, 1 - 2.0**-23, 1.0], np.linspace(0, LAST_UNIFORM, 5000)])
    assert not set(draw_categorical(logits, u).tolist()) & set(impossible)


def test_actions_count_from_the_start() -> None:
    distribution = distributions.for_action_space(Discrete(3, start=-1))
    assert distribution.action(tf.constant([0, 1, 2], tf.int64)).numpy().tolist() == [-1, 0, 1]
    assert Categorical(3).action(tf.constant([0, 1, 2], tf.int64)).numpy().tolist() == [0, 1, 2]


def gaussian_parameters(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    mean, log_std = generator.normal(0, 2, (rows, 6)), generator.uniform(-2, 1, (rows, 6))
    return np.concatenate([mean, log_std], axis=1), mean, np.exp(log_std)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gaussian_closed_forms(dtype: type) -> None:
    parameters, mean, std = gaussian_parameters(40)
    x = np.random.default_rng(1).normal(0, 3, (40, 6))
    tolerance = 2e-4 if dtype is np.float32 else 1e-12
    distribution, p = DiagonalGaussian(UNBOUNDED), tf.constant(parameters.astype(dtype))
    density = np.exp(-0.5 * ((x - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))
    with np.errstate(divide="ignore"):
        log_density = np.log(density.astype(np.longdouble)).sum(axis=1).astype(np.float64)
    far = ~np.isfinite(log_density)  # where the density itself underflows
    got = distribution.log_prob(p, tf.constant(x.astype(dtype))).numpy()
    np.testing.assert_allclose(got[~far], log_density[~far], rtol=tolerance, atol=tolerance)
    assert np.isfinite(got).all()
    entropy = np.log(std * math.sqrt(2 * math.pi * math.e)).sum(axis=1)
    np.testing.assert_allclose(distribution.entropy(p), entropy, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(distribution.mode(p), mean, rtol=tolerance)
    named = distribution.named_parameters(p)
    np.testing.assert_allclose(named["mean"], mean.reshape(-1, 2, 3), rtol=tolerance)
    np.testing.assert_allclose(named["stddev"], std.reshape(-1, 2, 3), rtol=tolerance)
    z = np.random.default_rng(2).normal(size=(40, 6))
    np.testing.assert_allclose(
        distribution.sample(p, tf.constant(z.astype(dtype))), mean + std * z, rtol=1e-4, atol=1e-5
    )


def test_gaussian_density_integrates_to_one() -> None:
    # Over the square of 8 standard deviations around the mean, by the midpoint rule.
    box = Box(np.full(2, -np.inf), np.full(2, np.inf), FLOAT32)
    mean, std, cells = np.array([0.3, -1.0]), np.array([0.5, 2.0]), 400
    z = (np.arange(cells) + 0.5) / cells * 16 - 8
    grid = np.stack(np.meshgrid(mean[0] + std[0] * z, mean[1] + std[1] * z), axis=-1).reshape(-1, 2)
    parameters = np.broadcast_to(np.concatenate([mean, np.log(std)]), (len(grid), 4))
    density = np.exp(DiagonalGaussian(box).log_prob(tf.constant(parameters), tf.constant(grid)).numpy())
    cell = (16 / cells) ** 2 * std.prod()
    assert density.sum() * cell == pytest.approx(1.0, abs=1e-9)
    # The entropy is the mean of -log density.
    entropy = DiagonalGaussian(box).entropy(tf.constant(parameters[:1])).numpy()[0]
    assert -(density * np.log(density)).sum() * cell == pytest.approx(entropy, abs=1e-9)


def test_gaussian_sample_moments() -> None:
    spec = PolicySpec(UNBOUNDED, UNBOUNDED, DistributionKind.DIAGONAL_GAUSSIAN)
    parameters, mean, std = gaussian_parameters(1, seed=5)
    n = 100_000
    z = noise.draw(noise.seeded(3), spec, n)
    rows = tf.constant(np.broadcast_to(parameters.astype(np.float32), (n, 12)))
    x = DiagonalGaussian(UNBOUNDED).sample(rows, tf.constant(z)).numpy().astype(np.float64)
    # 4 standard errors: std/sqrt(n) of the mean, std/sqrt(2n) of the standard deviation.
    assert (np.abs(x.mean(axis=0) - mean[0]) < 4 * std[0] / math.sqrt(n)).all()
    assert (np.abs(x.std(axis=0) - std[0]) < 4 * std[0] / math.sqrt(2 * n)).all()
    correlation = np.corrcoef(x.T) - np.eye(6)
    assert np.abs(correlation).max() < 4.5 / math.sqrt(n)


def test_actions_are_clipped_but_samples_are_not() -> None:
    space = Box(np.array([-1.0, -np.inf]), np.array([2.0, 1.5]), FLOAT32)
    distribution = DiagonalGaussian(space)
    sample = tf.constant([[-7.0, -7.0], [7.0, 7.0], [0.25, 0.25]])
    np.testing.assert_array_equal(distribution.action(sample), [[-1.0, -7.0], [2.0, 1.5], [0.25, 0.25]])
    # The log-probability is of the unclipped sample: at 7 with mean 0, std 1 in both components.
    parameters = tf.zeros([3, 4])
    expected = -0.5 * 49 * 2 - math.log(2 * math.pi)
    assert distribution.log_prob(parameters, sample).numpy()[1] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "bound", "dtype", "digits"),
    [
        *((DiagonalGaussian, bound, np.float64, 1e-6) for bound in (0.1, 0.7, 1 / 3, 1e-40, 123456.789)),
        *((kind, 0.7, np.float16, 1e-3) for kind in (DiagonalGaussian, SquashedGaussian, Kumaraswamy)),
    ],
)
def test_clipped_actions_are_within_bounds_of_every_dtype(kind: Any, bound: float, dtype: Any, digits: float) -> None:
    # float32(0.1) is above 0.1: an environment that checks its actions would refuse it.
    space = Box(np.array([-bound]), np.array([bound]), np.dtype(dtype))
    drawn = kind(space).action(tf.constant([[-1e9], [1e9]])).numpy()
    action = PolicySpec(Discrete(1), space, kind.kind).from_graph(drawn).astype(np.float64)
    assert (np.abs(action) <= bound).all()
    np.testing.assert_allclose(np.abs(action), bound, rtol=digits, atol=1e-38)


def test_actions_have_the_spaces_shape() -> None:
    for shape in [(), (1,), (2, 3)]:
        space = Box(np.full(shape, -1.0), np.full(shape, 1.0), FLOAT32)
        size = math.prod(shape)
        assert DiagonalGaussian(space).action(tf.zeros([5, size])).shape == (5, *shape)
        assert DiagonalGaussian(space).parameter_size == 2 * size


def test_ranks_are_asserted() -> None:
    # [B] against [B, 1] would broadcast to [B, B].
    with pytest.raises(ValueError, match="rank"):
        Categorical(3).log_prob(tf.zeros([4, 3]), tf.zeros([4, 1], tf.int64))
    with pytest.raises(ValueError, match="rank"):
        Categorical(3).sample(tf.zeros([4, 3]), tf.zeros([4]))
    with pytest.raises(ValueError, match="rank"):
        DiagonalGaussian(UNBOUNDED).log_prob(tf.zeros([4, 12]), tf.zeros([4]))


@pytest.mark.parametrize(
    "space",
    [
        Box(np.zeros(2), np.ones(2), np.dtype(np.int64)),
        Box(np.zeros(2), np.ones(2), np.dtype(np.uint8)),
        Box(np.zeros(0), np.zeros(0), FLOAT32),
    ],
)
def test_action_spaces_without_a_distribution_are_named(space: Box) -> None:
    with pytest.raises(UnsupportedSpaceError) as caught:
        distributions.for_action_space(space)
    assert str(space) in str(caught.value)


def test_noise_is_a_function_of_the_seed_alone_row_by_row() -> None:
    spec = PolicySpec(UNBOUNDED, Discrete(2), DistributionKind.CATEGORICAL)
    few, many = (noise.draw(noise.seeded(11), spec, rows) for rows in (3, 50))
    np.testing.assert_array_equal(few, many[:3])
    assert few.dtype == np.float32
    assert not np.array_equal(few, noise.draw(noise.seeded(12), spec, 3))
    uniform = noise.draw(noise.seeded(0), spec, 100_000)
    assert uniform.min() >= 0
    assert uniform.max() < 1
