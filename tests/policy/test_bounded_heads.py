"""The squashed Gaussian and Kumaraswamy against their distribution functions, in NumPy float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from pgkeras.engines.litert import LiteRTEngine
from pgkeras.errors import UnsupportedSpaceError
from pgkeras.policy import distributions
from pgkeras.policy.distributions import DiagonalGaussian, Distribution, Kumaraswamy, SquashedGaussian, stable
from pgkeras.policy.export import convert
from pgkeras.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from tests.policy.differences import assert_gradients_are_right

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
LAST_UNIFORM = np.float32(1 - 2.0**-24)
# Both bounds, only a lower one, only an upper one, none.
MIXED = Box(np.array([[-1.0, 2.0], [-np.inf, -np.inf]]), np.array([[4.0, np.inf], [-0.5, np.inf]]), FLOAT64)
BOUNDED = Box(np.array([[-1.0], [0.0], [-3.0]]), np.array([[1.0], [10.0], [-2.5]]), FLOAT32)


def normal_cdf(z: NDArray[Any]) -> NDArray[np.float64]:
    return 0.5 * np.array([math.erfc(-x / math.sqrt(2)) for x in np.ravel(z)]).reshape(np.shape(z))


def squashed(u: NDArray[Any]) -> NDArray[Any]:
    """Returns the flat action of a sample ``[..., 4]`` in MIXED, as the protocol defines it."""
    a = -1 + (4 + 1) * (np.tanh(u[..., 0]) + 1) / 2
    b = 2 + np.log1p(np.exp(u[..., 1]))
    c = -0.5 - np.log1p(np.exp(u[..., 2]))
    return np.stack([a, b, c, u[..., 3]], axis=-1)


def test_squashed_actions_match_the_protocol() -> None:
    u = np.random.default_rng(0).normal(0, 2, (200, 4))
    action = SquashedGaussian(MIXED).action(tf.constant(u)).numpy()
    assert action.shape == (200, 2, 2)
    np.testing.assert_allclose(action.reshape(200, 4), squashed(u), rtol=1e-6, atol=1e-6)


def test_the_squashed_density_is_the_derivative_of_the_cdf() -> None:
    generator = np.random.default_rng(1)
    mean, log_std = generator.normal(0, 1, (50, 4)), generator.uniform(-1.5, 1, (50, 4))
    u = mean + np.exp(log_std) * generator.normal(size=(50, 4))
    h = 1e-4
    rise = normal_cdf((u + h - mean) / np.exp(log_std)) - normal_cdf((u - h - mean) / np.exp(log_std))
    density = rise / np.abs(squashed(u + h) - squashed(u - h))
    parameters = tf.constant(np.concatenate([mean, log_std], axis=1))
    log_prob = SquashedGaussian(MIXED).log_prob(parameters, tf.constant(u)).numpy()
    np.testing.assert_allclose(log_prob, np.log(density).sum(axis=1), atol=1e-5)


@pytest.mark.parametrize("std", [0.01, 0.3, 1.0, 3.0, math.e**2])
def test_the_squashed_entropy_is_the_mean_of_minus_the_log_density(std: float) -> None:
    mean = np.linspace(-6, 6, 25)
    z = np.linspace(-9, 9, 4001)
    weight = np.exp(-(z**2) / 2)
    distribution = SquashedGaussian(MIXED)
    parameters = np.column_stack([np.repeat(mean[:, np.newaxis], 4, axis=1), np.full((25, 4), math.log(std))])
    rows = np.repeat(parameters, len(z), axis=0)
    u = rows[:, :4] + std * np.tile(z, 25)[:, np.newaxis]
    log_prob = distribution.log_prob(tf.constant(rows), tf.constant(u)).numpy().reshape(25, -1)
    # All components share z here, but the mean of a sum is the sum of the means.
    expected = -(log_prob * weight).sum(axis=1) / weight.sum()
    # Each of the three bounded components may have an error of 5e-4.
    np.testing.assert_allclose(distribution.entropy(tf.constant(parameters)), expected, atol=1.5e-3)
    np.testing.assert_allclose(
        distribution.entropy(tf.constant(parameters.astype(np.float32))), expected, rtol=1e-5, atol=1.5e-3
    )


@pytest.mark.parametrize(("low", "high"), [(-1000.0, 1000.0), (0.0, 255.0), (-0.05, 0.05), (5.0, 6.0)])
def test_a_squashed_gaussian_scales_with_the_bounds(low: float, high: float) -> None:
    here, unit = (SquashedGaussian(Box(np.full(2, a), np.full(2, b), FLOAT64)) for a, b in ((low, high), (-1.0, 1.0)))
    generator = np.random.default_rng(2)
    parameters = tf.constant(generator.normal(size=(100, 4)))
    noise = tf.constant(generator.normal(size=(100, 2)))
    actions = here.action(here.sample(parameters, noise)).numpy()
    of_unit = unit.action(unit.sample(parameters, noise)).numpy()
    np.testing.assert_allclose((actions - low) / (high - low), (of_unit + 1) / 2, atol=1e-5)
    wider = 2 * math.log((high - low) / 2)  # in each of two components
    np.testing.assert_allclose(here.entropy(parameters), unit.entropy(parameters) + wider, atol=1e-6)


def test_without_bounds_a_squashed_gaussian_is_a_gaussian() -> None:
    box = Box(np.full(3, -np.inf), np.full(3, np.inf), FLOAT32)
    parameters, sample = tf.random.stateless_normal([7, 6], [1, 2]), tf.random.stateless_normal([7, 3], [3, 4])
    ours, plain = SquashedGaussian(box), DiagonalGaussian(box)
    np.testing.assert_array_equal(ours.log_prob(parameters, sample), plain.log_prob(parameters, sample))
    np.testing.assert_array_equal(ours.entropy(parameters), plain.entropy(parameters))
    np.testing.assert_array_equal(ours.action(sample), plain.action(sample))


def shapes(distribution: Kumaraswamy, parameters: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns a and b in float64, from the definition of the parameters."""
    a, b = np.split(1 + np.logaddexp(0, parameters), 2, axis=1)
    return a, b


def draw_parameters(rows: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0, 3, (rows, 6))


def test_kumaraswamy_samples_are_the_inverse_cdf() -> None:
    distribution, parameters = Kumaraswamy(BOUNDED), draw_parameters(300)
    a, b = shapes(distribution, parameters)
    u = np.random.default_rng(1).uniform(0.001, 0.999, (300, 3))
    sample = distribution.sample(tf.constant(parameters), tf.constant(u)).numpy()
    x = 1 / (1 + np.exp(-sample))
    np.testing.assert_allclose(1 - (1 - x**a) ** b, u, rtol=1e-6)
    action = distribution.action(tf.constant(sample)).numpy()
    expected = np.array([-1.0, 0.0, -3.0]) + np.array([2.0, 10.0, 0.5]) * x
    np.testing.assert_allclose(action.reshape(300, 3), expected, rtol=1e-6, atol=1e-6)
    named = distribution.named_parameters(tf.constant(parameters))
    np.testing.assert_allclose(named["a"], a.reshape(300, 3, 1), rtol=1e-7)
    np.testing.assert_allclose(named["b"], b.reshape(300, 3, 1), rtol=1e-7)


def test_the_kumaraswamy_density_is_the_derivative_of_the_cdf() -> None:
    distribution, parameters = Kumaraswamy(BOUNDED), draw_parameters(300)
    a, b = shapes(distribution, parameters)
    x = np.random.default_rng(2).uniform(0.02, 0.98, (300, 3))
    h = 1e-6
    log_slope = np.log((1 - (x - h) ** a) ** b - (1 - (x + h) ** a) ** b) - np.log(2 * h)
    expected = (log_slope - np.log([2.0, 10.0, 0.5])).sum(axis=1)
    solid = (log_slope > -8).all(axis=1)  # elsewhere the difference is too imprecise
    assert solid.sum() > 100
    for dtype, tolerance in ((np.float64, 1e-4), (np.float32, 1e-3)):
        logit = tf.constant(np.log(x / (1 - x)).astype(dtype))
        log_prob = distribution.log_prob(tf.constant(parameters.astype(dtype)), logit).numpy()
        np.testing.assert_allclose(log_prob[solid], expected[solid], atol=tolerance, rtol=tolerance)


def test_the_kumaraswamy_entropy_is_the_mean_of_minus_the_log_density() -> None:
    # The mean over the distribution is that over uniform noise: the midpoint rule, finer towards both ends.
    distribution, parameters = Kumaraswamy(BOUNDED), draw_parameters(20)
    v = (np.arange(20_000) + 0.5) / 20_000
    u = v**3 * (10 - 15 * v + 6 * v**2)
    weight = 30 * v**2 * (1 - v) ** 2 / 20_000
    for row in parameters:
        rows = tf.constant(np.broadcast_to(row, (len(u), 6)))
        noise = tf.constant(np.repeat(u[:, np.newaxis], 3, axis=1))
        log_prob = distribution.log_prob(rows, distribution.sample(rows, noise)).numpy()
        entropy = distribution.entropy(tf.constant(row[np.newaxis])).numpy()[0]
        assert entropy == pytest.approx(-(log_prob * weight).sum(), abs=1e-3)
        assert distribution.entropy(tf.constant(row[np.newaxis], tf.float32)).numpy()[0] == pytest.approx(
            entropy, abs=1e-5
        )


def test_the_kumaraswamy_mode_maximizes_the_density() -> None:
    distribution, parameters = Kumaraswamy(BOUNDED), draw_parameters(50)
    x = (np.arange(2000) + 0.5) / 2000
    logit = tf.constant(np.repeat(np.log(x / (1 - x))[:, np.newaxis], 3, axis=1))
    modes = distribution.mode(tf.constant(parameters)).numpy()
    for row, mode in zip(parameters, modes, strict=True):
        a, b = shapes(distribution, row[np.newaxis])
        density = np.log(a * b) + (a - 1) * np.log(x)[:, np.newaxis] + (b - 1) * np.log1p(-(x[:, np.newaxis] ** a))
        np.testing.assert_allclose(1 / (1 + np.exp(-mode)), x[density.argmax(axis=0)], atol=6e-4)
        assert np.isfinite(distribution.log_prob(tf.constant(np.tile(row, (2000, 1))), logit)).all()


def test_parameters_of_zero_give_a_broad_density() -> None:
    space = Box(np.zeros(1), np.ones(1), FLOAT32)
    parameters = tf.zeros([1, 2])
    assert -0.2 < Kumaraswamy(space).entropy(parameters).numpy()[0] < 0  # a uniform distribution has entropy 0
    action = Kumaraswamy(space).action(Kumaraswamy(space).mode(parameters)).numpy()[0, 0]
    assert 0.4 < action < 0.6


def test_harmonic_numbers() -> None:
    exact = np.cumsum(1 / np.arange(1, 10_001))
    x = np.array([1, 2, 3, 10, 100, 10_000])
    np.testing.assert_allclose(stable.harmonic(tf.constant(x, tf.float64)), exact[x - 1], rtol=1e-8)
    np.testing.assert_allclose(stable.harmonic(tf.constant(x, tf.float32)), exact[x - 1], rtol=1e-6)
    # H(1/2) = 2 - 2 ln 2, and H(0) = 0.
    half = stable.harmonic(tf.constant([0.5, 0.0], tf.float64))
    np.testing.assert_allclose(half, [2 - 2 * math.log(2), 0], atol=1e-8)


def heads() -> list[Any]:
    return [
        pytest.param(DiagonalGaussian(MIXED), "normal", id="diagonal"),
        pytest.param(SquashedGaussian(MIXED), "normal", id="squashed"),
        pytest.param(Kumaraswamy(BOUNDED), "uniform", id="kumaraswamy"),
    ]


@pytest.mark.parametrize(("distribution", "noise"), heads())
def test_gradients_match_finite_differences(distribution: Distribution, noise: str) -> None:
    generator = np.random.default_rng(3)
    parameters = generator.normal(0, 1, (1, distribution.parameter_size))
    size = distribution.parameter_size // 2
    z = generator.random((1, size)) if noise == "uniform" else generator.normal(size=(1, size))
    assert_gradients_are_right(distribution, parameters, z, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize(("distribution", "noise"), heads())
@pytest.mark.parametrize("scale", [1.0, 10.0, 1e4])
def test_extreme_parameters_and_noise_give_finite_results(distribution: Distribution, noise: str, scale: float) -> None:
    generator = np.random.default_rng(4)
    size = distribution.parameter_size // 2
    parameters = generator.normal(0, scale, (400, 2 * size))
    if noise == "normal":
        parameters[:, size:] = generator.uniform(-20, 5, (400, size))
        z = generator.normal(0, 3, (400, size))
    else:
        z = generator.choice([0.0, 2.0**-24, 0.5, LAST_UNIFORM, 1.0], (400, size))
    p, z32 = tf.constant(parameters, tf.float32), tf.constant(z, tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(p)
        sample = tf.stop_gradient(distribution.sample(p, z32))
        log_prob, entropy = distribution.log_prob(p, sample), distribution.entropy(p)
    action, greedy = distribution.action(sample), distribution.action(distribution.mode(p))
    space = distribution.space  # type: ignore[attr-defined]
    for array in (sample, log_prob, entropy, action, greedy):
        assert np.isfinite(array).all()
    for array in (action, greedy):
        assert (array.numpy() >= space.low).all()
        assert (array.numpy() <= space.high).all()
    for value in (log_prob, entropy):
        assert np.isfinite(tape.gradient(value, p)).all()


@pytest.mark.parametrize(("distribution", "noise"), heads())
def test_litert_computes_the_same(distribution: Distribution, noise: str) -> None:
    def graph(observation: tf.Tensor, noise: tf.Tensor) -> dict[str, tf.Tensor]:
        sample = distribution.sample(observation, noise)
        return {
            "action": distribution.action(sample),
            "greedy_action": distribution.action(distribution.mode(observation)),
            "log_prob": distribution.log_prob(observation, sample),
            "entropy": distribution.entropy(observation),
            **distribution.named_parameters(observation),
        }

    size = distribution.parameter_size // 2
    signature = {
        "observation": tf.TensorSpec([None, 2 * size], tf.float32, "observation"),
        "noise": tf.TensorSpec([None, size], tf.float32, "noise"),
    }
    engine = LiteRTEngine(convert(tf.function(graph, autograph=False).get_concrete_function(**signature), tf.Module()))
    generator = np.random.default_rng(5)
    for scale in (0.1, 1.0, 4.0) if noise == "normal" else (0.1, 1.0, 10.0, 100.0):
        x = generator.normal(0, scale, (256, 2 * size)).astype(np.float32)
        z = generator.random((256, size), np.float32)
        if noise == "normal":
            x[:, size:] = np.clip(x[:, size:], -4, 2)
            z = generator.standard_normal((256, size), np.float32)
        answer = engine.act({"observation": x, "noise": z})
        for name, expected in graph(tf.constant(x), tf.constant(z)).items():
            np.testing.assert_allclose(answer[name], expected, rtol=2e-5, atol=2e-5, err_msg=f"{name} at {scale}")


@pytest.mark.parametrize("family", ["diagonal_gaussian", "squashed_gaussian", "kumaraswamy"])
@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(0.1, 0.7, FLOAT64), (-1 / 3, 1 / 3, FLOAT64), (-123456.789, 1e-40, FLOAT64), (-1e30, 1e30, FLOAT32)],
)
def test_actions_are_within_the_bounds(family: str, low: float, high: float, dtype: np.dtype[Any]) -> None:
    # float32(0.1) is above 0.1, and float32(0.7) below 0.7: an environment that checks would refuse such an action.
    distribution = distributions.for_action_space(Box(np.full((), low), np.full((), high), dtype), family)
    action = distribution.action(tf.constant([[-1e9], [-50.0], [0.0], [50.0], [1e9]])).numpy().astype(dtype)
    assert action.shape == (5,)
    assert (action >= low).all()
    assert (action <= high).all()
    if family != "diagonal_gaussian":
        np.testing.assert_allclose(action[[0, 2, 4]], [low, (low + high) / 2, high], rtol=1e-6, atol=1e-36)


def test_bounds_without_a_float32_between_them() -> None:
    third = Box(np.array([1 / 3]), np.array([1 / 3]), FLOAT64)
    action = DiagonalGaussian(third).action(tf.constant([[-5.0], [5.0]])).numpy()
    np.testing.assert_array_equal(action, np.float32(1 / 3))


@pytest.mark.parametrize(
    ("family", "low", "high", "message"),
    [
        ("kumaraswamy", 0.0, np.inf, "needs finite bounds, but those of component 1"),
        ("kumaraswamy", -np.inf, 0.0, "use diagonal_gaussian or squashed_gaussian"),
        ("kumaraswamy", 0.5, 0.5, "needs bounds that differ"),
        ("squashed_gaussian", 0.5, 0.5, "use diagonal_gaussian"),
        ("squashed_gaussian", -3e38, 3e38, "whose distance is a float32"),
        ("categorical", 0.0, 1.0, "use diagonal_gaussian or squashed_gaussian or kumaraswamy"),
    ],
)
def test_incompatible_families_and_bounds_are_rejected(family: str, low: float, high: float, message: str) -> None:
    space = Box(np.array([0.0, low]), np.array([1.0, high]), FLOAT32)
    with pytest.raises(UnsupportedSpaceError, match=f"distribution {family}") as caught:
        distributions.for_action_space(space, family)
    assert message in str(caught.value)
    assert str(space) in str(caught.value)


@pytest.mark.parametrize(
    ("space", "works"),
    [
        (Discrete(2), "categorical"),
        (MultiDiscrete(np.array([2]), np.array([0])), "multi_categorical"),
        (MultiBinary((2,)), "multi_bernoulli"),
    ],
)
def test_continuous_families_are_rejected_for_discrete_spaces(space: Any, works: str) -> None:
    with pytest.raises(UnsupportedSpaceError, match=f"use {works}$"):
        distributions.for_action_space(space, "squashed_gaussian")
    assert distributions.for_action_space(space, works) == distributions.for_action_space(space)
