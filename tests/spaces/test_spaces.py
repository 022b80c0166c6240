"""Spaces of several integers or bits: accepted values, rejected values, and names."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from pgkeras.errors import InvalidRequestError, UnsupportedSpaceError
from pgkeras.spaces import (
    ArraySpace,
    Box,
    Dict,
    Discrete,
    MultiBinary,
    MultiDiscrete,
    Tuple,
    actions_from_gymnasium,
    observations_from_gymnasium,
)
from pgkeras.spaces.layout import Layout
from pgkeras.spaces.spec import families

LEVERS = MultiDiscrete(np.array([[2, 3]]), np.array([[0, -1]]))
SWITCHES = MultiBinary((2, 2))


def test_every_value_is_accepted_alone_or_in_a_batch():
    for a in (0, 1):
        for b in (-1, 0, 1):
            batch, has_batch_axis = LEVERS.batched(np.array([[a, b]]))
            assert (batch.tolist(), has_batch_axis) == ([[[a, b]]], False)
    batch, has_batch_axis = LEVERS.batched(np.array([[[0, -1]], [[1, 1]]]))
    assert (batch.shape, has_batch_axis) == ((2, 1, 2), True)
    bits = np.eye(2, dtype=np.int8)
    assert SWITCHES.batched(bits)[0].tolist() == [[[1, 0], [0, 1]]]
    assert SWITCHES.batched(np.stack([bits, bits]))[1]


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Dict({"a.b": gym.spaces.Discrete(2)}),
        gym.spaces.Dict({"a": gym.spaces.Discrete(2), "b": gym.spaces.Dict({})}),
        gym.spaces.Tuple([gym.spaces.Discrete(2), gym.spaces.Tuple([])]),
    ],
)
def test_dotted_keys_and_empty_structures_are_rejected(space: gym.Space[Any]) -> None:
    for convert in (actions_from_gymnasium, observations_from_gymnasium):
        with pytest.raises(UnsupportedSpaceError, match="is not supported"):
            convert(space)


@pytest.mark.parametrize("space", [Discrete(10**9), MultiDiscrete(np.array([2, 10**9]), np.zeros(2, np.int64))])
def test_too_many_actions_are_rejected(space: ArraySpace) -> None:
    with pytest.raises(UnsupportedSpaceError, match="integers to choose from"):
        families(space)


@pytest.mark.parametrize(
    ("space", "array", "message"),
    [
        (LEVERS, np.array([[2, 0]]), r"integers from 0 to 1 at index \[0, 0\], got 2"),
        (LEVERS, np.array([[[0, 0]], [[0, -2]]]), r"integers from -1 to 1 at index \[1, 0, 1\], got -2"),
        (LEVERS, np.array([0, 0]), r"shape \[1, 2\] or \[batch, 1, 2\], got shape \[2\]"),
        (LEVERS, np.array([[0, 0]], np.int32), "dtype int64, got dtype int32"),
        (LEVERS, np.zeros((0, 1, 2), np.int64), "empty batch"),
        (SWITCHES, np.array([[0, 1], [2, 1]], np.int8), r"zeros and ones, got 2 at index \[1, 0\]"),
        (SWITCHES, np.array([[0, 1], [-1, 1]], np.int8), "got -1"),
        (SWITCHES, np.zeros(4, np.int8), "shape"),
        (SWITCHES, np.zeros((2, 2), np.bool_), "dtype int8, got dtype bool"),
    ],
)
def test_values_outside_the_space_are_rejected(space, array, message):
    with pytest.raises(InvalidRequestError, match=message) as caught:
        space.batched(array, "the action")
    assert str(caught.value).startswith("the action: expected")


def test_gymnasium_spaces_are_mirrored():
    import gymnasium

    levers = gymnasium.spaces.MultiDiscrete(np.array([[2, 3]]), start=np.array([[0, -1]]))
    assert actions_from_gymnasium(levers) == LEVERS
    small = gymnasium.spaces.MultiDiscrete([2, 3], dtype=np.int32)
    assert actions_from_gymnasium(small).dtype == np.int32
    assert actions_from_gymnasium(gymnasium.spaces.MultiBinary([2, 2])) == SWITCHES
    assert actions_from_gymnasium(gymnasium.spaces.MultiBinary(3)) == MultiBinary((3,))


def test_spaces_with_different_values_differ():
    assert MultiDiscrete(LEVERS.nvec, np.array([[0, 0]])) != LEVERS
    assert MultiDiscrete(np.array([2, 3]), np.array([0, -1])) != LEVERS
    assert MultiDiscrete(LEVERS.nvec, LEVERS.start, np.dtype(np.int32)) != LEVERS
    assert hash(LEVERS) == hash(MultiDiscrete(LEVERS.nvec.copy(), LEVERS.start.copy()))
    assert MultiBinary((4,)) != SWITCHES


def test_the_order_of_parts_matters():
    one = Dict({"a": Discrete(2), "b": SWITCHES})
    other = Dict({"b": SWITCHES, "a": Discrete(2)})
    assert one == Dict({"a": Discrete(2), "b": MultiBinary((2, 2))})
    assert one != other
    assert Tuple((one,)) != Tuple((other,))
    row = {"a": np.array([1]), "b": np.zeros((1, 2, 2), np.int8)}
    assert Layout.of(one).pack(row).tolist() != Layout.of(other).pack(row).tolist()


def test_equal_spaces_have_equal_hashes():
    zero, below = (Box(np.array([bound]), np.ones(1), np.dtype(np.float32)) for bound in (0.0, -0.0))
    assert zero == below
    assert len({zero, below}) == 1
    one, other = Dict({"a": zero, "b": SWITCHES}), Dict({"a": below, "b": SWITCHES})
    assert len({one, other}) == 1


def test_spaces_have_readable_names():
    assert str(LEVERS) == "MultiDiscrete([[2, 3]], start=[[0, -1]])"
    assert str(MultiDiscrete(np.array([4]), np.array([0]))) == "MultiDiscrete([4])"
    assert str(SWITCHES) == "MultiBinary([2, 2])"
    assert str(MultiBinary((3,))) == "MultiBinary(3)"


def test_invalid_spaces_are_rejected():
    with pytest.raises(ValueError, match="every nvec must be at least 1, got 0"):
        MultiDiscrete(np.array([2, 0]), np.array([0, 0]))
    with pytest.raises(ValueError, match="start has"):
        MultiDiscrete(np.array([2, 3]), np.array([0]))
    with pytest.raises(ValueError, match="at least 0"):
        MultiBinary((-1,))


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8])
def test_a_box_of_integer_actions_is_a_multidiscrete(dtype: type) -> None:
    low, high = np.array([[1, 0], [3, 7]], dtype), np.array([[4, 0], [5, 100]], dtype)
    space = actions_from_gymnasium(gym.spaces.Box(low, high, dtype=dtype))
    assert space == MultiDiscrete(high.astype(int) - low + 1, low.astype(int), np.dtype(dtype))
    for bound in (low, high):
        assert space.batched(bound)[0].dtype == dtype
    with pytest.raises(InvalidRequestError):
        space.batched((high.astype(int) + 1).astype(dtype))


def test_a_box_of_too_many_integer_actions_is_rejected() -> None:
    with pytest.raises(UnsupportedSpaceError, match=r"4,294,967,296 integers to choose from.*TransformAction"):
        actions_from_gymnasium(gym.spaces.Box(-(2**31), 2**31 - 1, (1,), np.int32))
