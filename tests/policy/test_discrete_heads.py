"""MultiCategorical and MultiBernoulli, and masks, against enumeration in NumPy float64."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from pgkeras.engines.litert import LiteRTEngine
from pgkeras.errors import InvalidRequestError
from pgkeras.policy import distributions
from pgkeras.policy.distributions import Categorical, MultiBernoulli, MultiCategorical, masked
from pgkeras.policy.export import convert
from pgkeras.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from pgkeras.spaces.spec import DistributionKind, PolicySpec, check_mask
from tests.policy.differences import assert_gradients_are_right

LAST_UNIFORM = np.float32(1 - 2.0**-24)  # the largest float32 below 1
UNEVEN = MultiDiscrete(np.array([2, 4, 1, 3]), np.array([0, -1, 5, 0]))
EVEN = MultiDiscrete(np.full((2, 1), 3), np.zeros((2, 1), np.int64))
BITS = MultiBinary((2, 2))


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    e = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(e / e.sum())


def split(space: MultiDiscrete, row: NDArray[Any]) -> list[NDArray[Any]]:
    return np.split(row, np.cumsum(space.nvec.ravel())[:-1])


@pytest.mark.parametrize("space", [UNEVEN, EVEN])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_multi_categorical_is_the_product_of_its_components(space: MultiDiscrete, dtype: type) -> None:
    distribution = MultiCategorical(space)
    logits = np.random.default_rng(0).normal(0, 3, distribution.parameter_size).astype(dtype)
    tolerance = 1e-5 if dtype is np.float32 else 1e-12
    components = [softmax(part) for part in split(space, logits)]
    choices = np.array(list(itertools.product(*(range(n) for n in space.nvec.ravel()))))
    p = np.array([math.prod(c[i] for c, i in zip(components, row, strict=True)) for row in choices])
    rows = tf.constant(np.broadcast_to(logits, (len(choices), len(logits))))
    log_prob = distribution.log_prob(rows, tf.constant(choices)).numpy()
    np.testing.assert_allclose(log_prob, np.log(p), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(distribution.entropy(rows[:1]), [-(p * np.log(p)).sum()], rtol=tolerance)
    np.testing.assert_array_equal(distribution.mode(rows[:1])[0], choices[p.argmax()])
    named = distribution.named_parameters(rows[:1])["probabilities"]
    np.testing.assert_allclose(named[0], np.concatenate(components), rtol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_multi_bernoulli_is_the_product_of_its_bits(dtype: type) -> None:
    distribution = MultiBernoulli(BITS)
    log_odds = np.random.default_rng(0).normal(0, 3, 4).astype(dtype)
    tolerance = 1e-5 if dtype is np.float32 else 1e-7
    one = 1 / (1 + np.exp(-log_odds.astype(np.float64)))
    choices = np.array(list(itertools.product((0, 1), repeat=4)))
    p = np.where(choices == 1, one, 1 - one).prod(axis=1)
    rows = tf.constant(np.broadcast_to(log_odds, (16, 4)))
    np.testing.assert_allclose(
        distribution.log_prob(rows, tf.constant(choices)), np.log(p), rtol=tolerance, atol=tolerance
    )
    np.testing.assert_allclose(distribution.entropy(rows[:1]), [-(p * np.log(p)).sum()], rtol=tolerance)
    np.testing.assert_array_equal(distribution.mode(rows[:1])[0], choices[p.argmax()])
    np.testing.assert_allclose(
        distribution.named_parameters(rows[:1])["probabilities"][0], one.reshape(2, 2), rtol=tolerance
    )


def test_the_noise_of_each_component_is_its_own_column() -> None:
    # For a grid of 200 noise values in each column, the share of each action value is its probability.
    grid = ((np.arange(200) + 0.5) / 200).astype(np.float32)
    generator = np.random.default_rng(1)
    categorical, bernoulli = MultiCategorical(UNEVEN), MultiBernoulli(BITS)
    logits = generator.normal(0, 1, categorical.parameter_size).astype(np.float32)
    log_odds = generator.normal(0, 1, 4).astype(np.float32)
    for column in range(4):
        noise = np.full((200, 4), 0.3, np.float32)
        noise[:, column] = grid
        drawn = categorical.sample(tf.constant(np.tile(logits, (200, 1))), tf.constant(noise)).numpy()
        share = np.bincount(drawn[:, column], minlength=UNEVEN.nvec[column]) / 200
        np.testing.assert_allclose(share, softmax(split(UNEVEN, logits)[column]), atol=0.0051)
        assert (np.diff(drawn[:, column]) >= 0).all(), "the inverse distribution function rises"
        assert (np.delete(drawn, column, axis=1) == np.delete(drawn[0], column)).all()
        bits = bernoulli.sample(tf.constant(np.tile(log_odds, (200, 1))), tf.constant(noise)).numpy()
        assert bits[:, column].mean() == pytest.approx(1 / (1 + math.exp(-log_odds[column])), abs=0.0051)
        assert (np.diff(bits[:, column]) >= 0).all()
        assert (np.delete(bits, column, axis=1) == np.delete(bits[0], column)).all()


def test_actions_have_the_spaces_start_and_shape() -> None:
    sample = tf.constant([[1, 3, 0, 2]], tf.int64)
    assert MultiCategorical(UNEVEN).action(sample).numpy().tolist() == [[1, 2, 5, 2]]
    assert MultiCategorical(EVEN).action(sample[:, 2:]).numpy().tolist() == [[[0], [2]]]
    assert MultiBernoulli(BITS).action(tf.constant([[1, 0, 0, 1]], tf.int64)).numpy().tolist() == [[[1, 0], [0, 1]]]


def test_extreme_log_odds_give_finite_results() -> None:
    distribution = MultiBernoulli(MultiBinary((3,)))
    log_odds = tf.constant([[1e30, -1e30, 200.0]])
    for u in (0.0, LAST_UNIFORM, 1.0):
        assert distribution.sample(log_odds, tf.fill([1, 3], np.float32(u))).numpy().tolist() == [[1, 0, 1]]
    assert distribution.log_prob(log_odds, tf.constant([[1, 0, 0]])).numpy()[0] == pytest.approx(-200)
    with tf.GradientTape() as tape:
        tape.watch(log_odds)
        entropy = distribution.entropy(log_odds)
    np.testing.assert_allclose(entropy, [0], atol=1e-30)
    np.testing.assert_allclose(tape.gradient(entropy, log_odds), np.zeros((1, 3)), atol=1e-30)


@pytest.mark.parametrize("distribution", [Categorical(4), MultiCategorical(UNEVEN), MultiBernoulli(BITS)])
def test_gradients_match_finite_differences(distribution: distributions.Distribution) -> None:
    generator = np.random.default_rng(3)
    parameters = generator.normal(0, 1, (1, distribution.parameter_size))
    noise = generator.random((1, 1 if isinstance(distribution, Categorical) else 4)).astype(np.float64)
    assert_gradients_are_right(distribution, parameters, noise, rel=1e-6, abs=1e-8)


SMALL = MultiDiscrete(np.array([2, 3]), np.array([0, 1]))
NOISE = np.concatenate([[0.0, 2.0**-24, LAST_UNIFORM, 1 - 2.0**-23], np.linspace(0, LAST_UNIFORM, 60)])


def legal_masks(nvec: list[int]) -> list[list[int]]:
    parts = [[m for m in itertools.product((0, 1), repeat=n) if any(m)] for n in nvec]
    return [list(itertools.chain(*choice)) for choice in itertools.product(*parts)]


@pytest.mark.parametrize("as_bool", [False, True])
@pytest.mark.parametrize("spread", [1.0, 1000.0])
@pytest.mark.parametrize(
    ("distribution", "nvec"), [(Categorical(4), [4]), (MultiCategorical(SMALL), [2, 3])], ids=["one", "several"]
)
def test_a_masked_action_has_probability_0(distribution: Any, nvec: list[int], spread: float, as_bool: bool) -> None:
    masks = np.array(legal_masks(nvec))
    logits = np.random.default_rng(5).normal(0, spread, (len(masks), sum(nvec))).astype(np.float32)
    logits[:, 1] = logits.max() + 1  # so that the unmasked mode is often forbidden
    mask = tf.constant(masks.astype(bool) if as_bool else masks.astype(np.float32))
    parameters = tf.constant(logits)
    starts = np.cumsum(nvec) - nvec

    def forbidden(sample: tf.Tensor) -> int:
        index = sample.numpy().reshape(len(masks), -1) + starts
        return int((np.take_along_axis(masks, index, axis=1) == 0).sum())

    with tf.GradientTape(persistent=True) as tape:
        tape.watch(parameters)
        inside = masked(parameters, mask)
        greedy = distribution.mode(inside)
        log_prob, entropy = distribution.log_prob(inside, greedy), distribution.entropy(inside)
    probabilities = distribution.named_parameters(inside)["probabilities"].numpy()
    assert (probabilities[masks == 0] == 0).all()
    np.testing.assert_allclose(np.add.reduceat(probabilities, starts, axis=1), 1, rtol=1e-6)
    assert forbidden(greedy) == 0
    for u in NOISE:
        assert forbidden(distribution.sample(inside, tf.fill([len(masks), len(nvec)], np.float32(u)))) == 0
    assert np.isfinite(log_prob).all()
    for value in (log_prob, entropy):
        gradient = tape.gradient(value, parameters).numpy()
        assert np.isfinite(gradient).all()
        assert (gradient[masks == 0] == 0).all()
    # The distribution over the allowed values is the softmax of their logits.
    expected = [
        sum(
            -(p[p > 0] * np.log(p[p > 0])).sum()
            for part, m in zip(np.split(row, starts[1:]), np.split(allowed, starts[1:]), strict=True)
            for p in [softmax(part[m == 1])]
        )
        for row, allowed in zip(logits, masks, strict=True)
    ]
    np.testing.assert_allclose(entropy, expected, rtol=1e-4, atol=1e-5)


def test_the_log_probability_of_a_masked_action_is_finite() -> None:
    inside = masked(tf.constant([[1.0, 2.0]]), tf.constant([[True, False]]))
    log_prob = Categorical(2).log_prob(inside, tf.constant([1], tf.int64)).numpy()[0]
    assert np.isfinite(log_prob)
    assert math.exp(log_prob) == 0


def test_a_mask_of_another_shape_is_rejected() -> None:
    for mask in (tf.ones([2]), tf.ones([2, 3]), tf.ones([2, 1])):
        with pytest.raises(ValueError, match=r"rank|compatible"):
            masked(tf.zeros([2, 4]), mask)


@pytest.mark.parametrize(
    ("distribution", "size", "with_mask"),
    [
        (Categorical(5), 1, True),
        (MultiCategorical(UNEVEN), 4, True),
        (MultiCategorical(EVEN), 2, True),
        (MultiBernoulli(BITS), 4, False),
    ],
    ids=["categorical", "uneven", "even", "bits"],
)
def test_litert_computes_the_same(distribution: Any, size: int, with_mask: bool) -> None:
    n = distribution.parameter_size

    def graph(observation: tf.Tensor, noise: tf.Tensor) -> dict[str, tf.Tensor]:
        parameters = masked(observation[:, :n], observation[:, n:]) if with_mask else observation
        sample = distribution.sample(parameters, noise)
        return {
            "action": distribution.action(sample),
            "greedy_action": distribution.action(distribution.mode(parameters)),
            "log_prob": distribution.log_prob(parameters, sample),
            "entropy": distribution.entropy(parameters),
            **distribution.named_parameters(parameters),
        }

    generator = np.random.default_rng(0)
    x = generator.normal(0, 1, (300, n)) * np.repeat([1.0, 10.0, 1000.0], 100)[:, np.newaxis]
    if with_mask:
        mask = generator.random((300, n)) < 0.5
        mask[:, [0, *np.flatnonzero(~mask.any(axis=0))]] = True
        nvec = distribution.space.nvec.ravel() if isinstance(distribution, MultiCategorical) else np.array([n])
        mask[:, np.cumsum(nvec) - 1] = True
        x = np.concatenate([x, mask], axis=1)
    signature = {
        "observation": tf.TensorSpec([None, x.shape[1]], tf.float32, "observation"),
        "noise": tf.TensorSpec([None, size], tf.float32, "noise"),
    }
    function = tf.function(graph, autograph=False).get_concrete_function(**signature)
    inputs = {"observation": x.astype(np.float32), "noise": generator.random((300, size), np.float32)}
    answer = LiteRTEngine(convert(function, tf.Module())).act(inputs)
    for name, expected in graph(**{k: tf.constant(v) for k, v in inputs.items()}).items():
        assert np.isfinite(expected).all()
        if expected.dtype == tf.float32:
            np.testing.assert_allclose(answer[name], expected, rtol=1e-5, atol=1e-5)
        else:
            np.testing.assert_array_equal(answer[name], expected)


MASKED = PolicySpec(Discrete(1), SMALL, DistributionKind.MULTI_CATEGORICAL, mask_size=5)


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.float32])
def test_masks_are_checked_and_made_float32(dtype: type) -> None:
    mask = np.array([[1, 0, 0, 1, 1], [0, 1, 1, 0, 0]], dtype)
    checked = check_mask(mask, MASKED)
    assert checked.dtype == np.float32
    np.testing.assert_array_equal(checked, mask.astype(np.float32))
    np.testing.assert_array_equal(check_mask(mask[0], MASKED), mask[:1].astype(np.float32))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((2, 4)), "shape"),
        (np.ones((1, 2, 5)), "shape"),
        (np.ones((0, 5)), "shape"),
        (np.array(1), "shape"),
        (np.array([1, 0.5, 1, 1, 1]), "got 0.5"),
        (np.array([1, np.nan, 1, 1, 1]), "got nan"),
        (np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0]]), "for component 1, got none in row 1"),
        (np.array([False, False, True, True, True]), "for component 0"),
    ],
)
def test_an_invalid_mask_is_rejected(mask: NDArray[Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match="action_mask") as caught:
        check_mask(mask, MASKED)
    assert message in str(caught.value)


def test_masks_are_checked_against_the_spec() -> None:
    with pytest.raises(InvalidRequestError, match="takes no mask"):
        check_mask(np.ones(5), PolicySpec(Discrete(1), SMALL, DistributionKind.MULTI_CATEGORICAL))
    with pytest.raises(ValueError, match="length 0"):
        PolicySpec(Discrete(1), BITS, DistributionKind.MULTI_BERNOULLI, mask_size=4)
    spec = PolicySpec(Discrete(1), Discrete(3), DistributionKind.CATEGORICAL, mask_size=3)
    with pytest.raises(InvalidRequestError, match="at least one allowed action, got none in row 0"):
        check_mask(np.zeros(3), spec)


def test_every_action_space_has_its_distribution() -> None:
    box = Box(np.zeros(2), np.ones(2), np.dtype(np.float32))
    for space, kind in [
        (Discrete(2), DistributionKind.CATEGORICAL),
        (UNEVEN, DistributionKind.MULTI_CATEGORICAL),
        (BITS, DistributionKind.MULTI_BERNOULLI),
        (box, DistributionKind.DIAGONAL_GAUSSIAN),
    ]:
        distribution = distributions.for_action_space(space)
        assert distribution.kind is kind
        spec = PolicySpec(box, space, kind)
        noise = tf.zeros([3, spec.noise_size])
        sample = distribution.sample(tf.zeros([3, distribution.parameter_size]), noise)
        assert distribution.action(sample).shape == (3, *space.shape)
        assert spec.from_graph(distribution.action(sample).numpy()).dtype == space.dtype
