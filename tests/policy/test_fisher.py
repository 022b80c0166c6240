"""The Fisher information of distributions against the expectation that defines it, ``E[s s^T]``, in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from pgkeras.policy import distributions
from pgkeras.policy.distributions import Distribution
from pgkeras.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

Floats = NDArray[np.float64]


def box(low: float, high: float, size: int) -> Box:
    return Box(np.full(size, low), np.full(size, high), np.dtype(np.float32))


def scores(distribution: Distribution, parameters: Floats, samples: tf.Tensor) -> Floats:
    """Returns the gradient of each sample's log-probability with respect to the parameters ``[P]``: ``[N, P]``."""
    rows = tf.constant(np.tile(parameters, (len(samples), 1)))
    with tf.GradientTape() as tape:
        tape.watch(rows)
        log_prob = distribution.log_prob(rows, samples)
    return np.asarray(tape.gradient(log_prob, rows))


def check(distribution: Distribution, parameters: Floats, expected: Floats, **closeness: float) -> None:
    """Checks every column of the Fisher matrix, and a linear combination of columns."""
    size = len(parameters)
    rows = tf.constant(np.tile(parameters, (size, 1)))
    np.testing.assert_allclose(distribution.fisher(rows, tf.eye(size, dtype=tf.float64)), expected, **closeness)
    direction = np.random.default_rng(0).normal(size=(1, size))
    of_sum = distribution.fisher(tf.constant(parameters[np.newaxis]), tf.constant(direction))
    np.testing.assert_allclose(of_sum, direction @ expected, **closeness)


@pytest.mark.parametrize(
    ("space", "values"),
    [
        (Discrete(4), list(range(4))),
        (
            MultiDiscrete(np.array([3, 3]), np.zeros(2, np.int64), np.dtype(np.int64)),
            list(itertools.product(range(3), repeat=2)),
        ),
        (
            MultiDiscrete(np.array([3, 2]), np.zeros(2, np.int64), np.dtype(np.int64)),
            list(itertools.product(range(3), range(2))),
        ),
        (MultiBinary((3,)), list(itertools.product((0, 1), repeat=3))),
    ],
)
def test_fisher_of_discrete_actions_by_enumeration(
    space: Discrete | MultiDiscrete | MultiBinary, values: list[object]
) -> None:
    distribution = distributions.for_action_space(space)
    parameters = np.random.default_rng(1).normal(0, 1.5, distribution.parameter_size)
    samples = tf.constant(values, tf.int64)
    rows = tf.constant(np.tile(parameters, (len(values), 1)))
    p = np.exp(distribution.log_prob(rows, samples).numpy())
    assert p.sum() == pytest.approx(1.0)
    s = scores(distribution, parameters, samples)
    check(distribution, parameters, np.einsum("n,ni,nj->ij", p, s, s), atol=1e-12)


def test_a_forbidden_action_has_fisher_information_0() -> None:
    distribution = distributions.for_action_space(Discrete(3))
    allowed = np.array([[1.0, 0.0, 1.0]])
    parameters = distributions.masked(tf.constant([[0.3, 5.0, -0.4]], tf.float64), tf.constant(allowed))
    p = 1 / (1 + np.exp(-0.7))
    of_two = p * (1 - p) * np.array([[1.0, 0.0, -1.0]])
    np.testing.assert_allclose(distribution.fisher(parameters, tf.constant([[1.0, 7.0, 0.0]], tf.float64)), of_two)


@pytest.mark.parametrize("family", ["diagonal_gaussian", "squashed_gaussian"])
@pytest.mark.parametrize("bounds", [(-1.0, 1.0), (0.0, 1000.0)])
def test_fisher_of_gaussian_actions_by_quadrature(family: str, bounds: tuple[float, float]) -> None:
    # The score is a polynomial of degree two in the noise, so five points give the exact integral.
    distribution = distributions.for_action_space(box(*bounds, 2), family)
    points, weights = np.polynomial.hermite_e.hermegauss(5)
    noise = np.array(list(itertools.product(points, repeat=2)))
    weight = np.array([a * b for a, b in itertools.product(weights, repeat=2)]) / weights.sum() ** 2
    parameters = np.array([0.4, -0.2, -0.7, 0.3])
    samples = distribution.sample(tf.constant(np.tile(parameters, (len(noise), 1))), tf.constant(noise))
    s = scores(distribution, parameters, samples)
    check(distribution, parameters, np.einsum("n,ni,nj->ij", weight, s, s), atol=1e-10)


@pytest.mark.parametrize("parameters", [(0.0, 0.0), (2.0, 1.0), (-3.0, 4.0), (0.5, 0.541), (6.0, -4.0), (3.0, 30.0)])
def test_fisher_of_kumaraswamy_actions_by_quadrature(parameters: tuple[float, float]) -> None:
    distribution = distributions.for_action_space(box(-1.0, 1.0, 1), "kumaraswamy")
    # Tanh-sinh quadrature over the noise, because the score has logarithmic singularities at both ends.
    t = np.linspace(-3.0, 3.0, 4001)
    noise = 0.5 * (1 + np.tanh(np.pi / 2 * np.sinh(t)))
    weight = np.cosh(t) / np.cosh(np.pi / 2 * np.sinh(t)) ** 2
    samples = distribution.sample(tf.constant(np.tile(parameters, (len(t), 1))), tf.constant(noise[:, np.newaxis]))
    s = scores(distribution, np.array(parameters), samples)
    expected = np.einsum("n,ni,nj->ij", weight / weight.sum(), s, s)
    check(distribution, np.array(parameters), expected, rtol=2e-3, atol=1e-3 * np.abs(expected).max())


def test_structured_actions_use_the_fisher_information_of_each_part() -> None:
    space = Dict({"aim": box(-1.0, 1.0, 2), "fire": Discrete(3), "move": MultiBinary((2,))})
    distribution = distributions.for_action_space(space)
    generator = np.random.default_rng(2)
    parameters, direction = generator.normal(size=(2, 5, distribution.parameter_size))
    got = distribution.fisher(tf.constant(parameters), tf.constant(direction)).numpy()
    # Means, logits, log-odds, then log standard deviations.
    gaussian = distributions.for_action_space(box(-1.0, 1.0, 2))
    columns = [0, 1, 7, 8]
    expected = gaussian.fisher(tf.constant(parameters[:, columns]), tf.constant(direction[:, columns]))
    np.testing.assert_allclose(got[:, columns], expected)
    for leaf, where in ((Discrete(3), slice(2, 5)), (MultiBinary((2,)), slice(5, 7))):
        one = distributions.for_action_space(leaf)
        np.testing.assert_allclose(
            got[:, where], one.fisher(tf.constant(parameters[:, where]), tf.constant(direction[:, where]))
        )
