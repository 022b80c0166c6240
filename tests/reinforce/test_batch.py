"""A batch in parts gives the same results as the whole batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pgkeras.environments.trajectory import Trajectory
from pgkeras.policy.policy import Policy
from pgkeras.reinforce.batch import Batch, batch_arrays, group_by_length, micro_batches, padded, split
from pgkeras.reinforce.reinforce import policy_gradient
from pgkeras.reinforce.train_step import StepMetrics, TrainStep
from pgkeras.reinforce.value import ValueFunction
from pgkeras.settings.groups import NetworkSettings, ValueSettings
from pgkeras.spaces import Box, Dict, Discrete, Space, Text
from pgkeras.spaces.layout import Layout
from pgkeras.spaces.random_observations import random_observations

VECTOR = Box(np.full(3, -1.0), np.full(3, 1.0), np.dtype(np.float32))
IMAGE = Box(np.zeros((8, 8, 2)), np.full((8, 8, 2), 255.0), np.dtype(np.uint8))
WORDS = Dict({"text": Text(0, 20, vocabulary=("go", "left", "right"), max_tokens=4), "vector": VECTOR})
LENGTHS = [9, 1, 4, 30, 2, 7]


@given(steps=st.integers(1, 9), episodes=st.integers(1, 9), rows=st.integers(1, 30), axes=st.integers(1, 2))
def test_parts_concatenate_to_the_whole_batch(steps: int, episodes: int, rows: int, axes: int) -> None:
    shape = (steps, episodes) if axes == 2 else (steps * episodes,)
    first = np.arange(steps * episodes).reshape(shape)
    parts = list(split([first, np.stack([first, -first], axis=-1)], rows, axes))
    assert all(part[0].size <= rows or part[0].shape == (steps, 1) for part in parts)
    np.testing.assert_array_equal(np.concatenate([part[0] for part in parts], axis=len(shape) - 1), first)
    for one, two in parts:
        np.testing.assert_array_equal(two, np.stack([one, -one], axis=-1))
        filled, _ = padded([one, two])
        np.testing.assert_array_equal(filled[: len(one)], one)
        assert not filled[len(one) :].any()
        assert math.log2(len(filled)).is_integer()
        assert len(one) <= len(filled) < 2 * len(one)


@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=40))
def test_groups_by_length_contain_all_episodes_with_little_padding(lengths: list[int]) -> None:
    steps, each = max(lengths), np.array(lengths)
    numbers = np.arange(steps * len(each)).reshape(steps, len(each))
    real = np.arange(steps)[:, np.newaxis] < each
    groups = [(a, b) for a, b in group_by_length([numbers, real], each)]
    kept = np.concatenate([numbers[mask] for numbers, mask in groups])
    np.testing.assert_array_equal(np.sort(kept), np.sort(numbers[real]))
    assert sum(mask.size for _, mask in groups) <= 2 * each.sum()


def test_groups_give_the_gradient_of_the_whole_batch() -> None:
    settings = NetworkSettings(hidden=(7,), memory="gru", memory_units=5)
    policy = Policy(VECTOR, Discrete(3), settings=settings, seed=3)
    trajectory, weights = episodes(policy.spec.layout, 0), advantage(0)
    expected = policy_gradient(policy, Batch.of(batch_arrays(policy, trajectory, weights), len(LENGTHS)))
    groups = micro_batches(policy, trajectory, weights, None, pad=False)
    assert [group.real.shape for group in groups] == [(1, 1), (2, 1), (4, 1), (7, 1), (9, 1), (30, 1)]
    parts = [policy_gradient(policy, group) for group in groups]
    np.testing.assert_allclose(np.sum([part.sums for part in parts], axis=0), expected.sums, rtol=1e-5)
    for got, of_all in zip(zip(*(part.gradients for part in parts), strict=True), expected.gradients, strict=True):
        np.testing.assert_allclose(sum(one.numpy() for one in got), of_all, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(1,), (17,), (376,), (84, 84, 4), (1080, 1920, 3), (2**26,)])
def test_larger_rows_are_computed_in_smaller_parts(shape: tuple[int, ...]) -> None:
    rows = Layout.of(Box(np.zeros(shape), np.ones(shape), np.dtype(np.float32))).rows_at_once
    assert rows >= 1
    assert math.log2(rows).is_integer()
    assert rows == 1 or rows * math.prod(shape) <= 2**25 < 2 * rows * math.prod(shape) or rows == 2**18


@pytest.mark.parametrize("rows_at_once", [pytest.param(1, marks=pytest.mark.slow), 8])
@pytest.mark.parametrize(
    ("space", "settings", "jit_compile"),
    [
        (VECTOR, {}, False),
        (VECTOR, {}, True),
        (IMAGE, {}, False),
        pytest.param(WORDS, {}, False, marks=pytest.mark.slow),
        (VECTOR, {"memory": "gru", "memory_units": 5}, False),
        pytest.param(VECTOR, {"memory": "lstm", "memory_units": 5}, True, marks=pytest.mark.slow),
    ],
)
def test_a_step_in_parts_equals_a_step_on_the_whole_batch(
    space: Space, settings: dict[str, Any], jit_compile: bool, rows_at_once: int
) -> None:
    def steps(rows: int | None) -> tuple[list[StepMetrics], list[NDArray[Any]]]:
        policy = Policy(space, Discrete(3), settings=NetworkSettings(hidden=(7,), **settings), seed=3)
        step = TrainStep(
            policy,
            keras.optimizers.SGD(0.1),
            clip_norm=0.5,
            entropy_bonus=0.2,
            measure_kl=True,
            jit_compile=jit_compile,
        )
        step.rows = rows
        metrics = [step(episodes(policy.spec.layout, seed), advantage(seed)) for seed in range(2)]
        for ours, kept in zip(policy.weights(), step.weights, strict=True):
            np.testing.assert_array_equal(ours, kept)
        return metrics, policy.weights()

    (expected, at_once), (got, in_parts) = steps(None), steps(rows_at_once)
    np.testing.assert_allclose(np.array(got), np.array(expected), rtol=1e-3, atol=1e-6)
    for a, b in zip(in_parts, at_once, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert expected[0].kl > 0


class Counted(list[Batch]):
    """Counts how often a batch is read, because each read copies its arrays to the device."""

    taken = 0

    def __iter__(self) -> Iterator[Batch]:
        for batch in super().__iter__():
            self.taken += 1
            yield batch


@pytest.mark.parametrize("measure_kl", [False, True])
def test_parts_are_copied_twice_only_to_measure_the_kl_divergence(measure_kl: bool) -> None:
    policy = Policy(VECTOR, Discrete(3), settings=NetworkSettings(hidden=(7,)), seed=3)
    step = TrainStep(policy, keras.optimizers.SGD(0.1), measure_kl=measure_kl)
    step.rows = 8
    batch = step.batch(episodes(policy.spec.layout, 0), advantage(0))
    parts = Counted(batch.parts)
    metrics = step.apply(batch._replace(parts=parts))
    assert len(parts) == math.ceil(sum(LENGTHS) / 8)
    assert parts.taken == len(parts) * (2 if measure_kl else 1)
    assert math.isnan(metrics.kl) is not measure_kl


def test_a_value_network_predicts_the_same_in_parts() -> None:
    layout = Layout.of(VECTOR)
    settings = ValueSettings(hidden=(5,), value_learning_rate=0.1, value_passes=3, value_batch_size=8)
    value = ValueFunction(layout, settings, None, seed=0)
    observations = random_observations(layout, 30, np.random.default_rng(0))
    value.fit(observations, np.random.default_rng(1).normal(5, 2, 30), epoch=0)
    at_once = value.predict(observations)
    value._rows_at_once = 4
    np.testing.assert_allclose(value.predict(observations), at_once, rtol=1e-6)
    assert np.ptp(at_once) > 0.01


def episodes(layout: Layout, seed: int) -> Trajectory:
    generator = np.random.default_rng(seed)
    shape = (max(LENGTHS), len(LENGTHS))
    rows = random_observations(layout, math.prod(shape), generator)
    return Trajectory(
        rows.reshape(*shape, *layout.shape),
        generator.integers(0, 3, shape),
        np.zeros(shape),
        np.array(LENGTHS),
        np.ones(len(LENGTHS), np.bool_),
        rows[: len(LENGTHS)],
    )


def advantage(seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed + 100).normal(size=(max(LENGTHS), len(LENGTHS)))


@pytest.mark.parametrize("rows_at_once", [None, 8])
def test_the_norm_of_an_embedding_gradient_is_that_of_the_dense_tensor(rows_at_once: int | None) -> None:
    """A repeated index must contribute once to the norm. A plain gradient step then has the clipped length."""
    policy = Policy(Discrete(600), Discrete(3), settings=NetworkSettings(hidden=()), seed=3)
    policy.assign([300 * weight if weight.shape[-1] == 3 else weight for weight in policy.weights()])
    before = policy.weights()
    step = TrainStep(policy, keras.optimizers.SGD(1.0), clip_norm=0.01)
    step.rows = rows_at_once
    played = episodes(policy.spec.layout, 0)
    metrics = step(played._replace(observations=np.full_like(played.observations, 3)), advantage(0))
    moved = [after - old for after, old in zip(policy.weights(), before, strict=True)]
    assert metrics.gradient_norm > 0.01
    assert math.sqrt(sum(float((change**2).sum()) for change in moved)) == pytest.approx(0.01, rel=1e-3)
