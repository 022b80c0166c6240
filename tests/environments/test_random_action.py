"""Random actions under an action mask."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from pgkeras.environments.random_action import random_action


@pytest.mark.parametrize(
    ("space", "mask"),
    [
        (spaces.Discrete(5, start=2), np.array([0, 1, 0, 0, 1], np.int8)),
        (spaces.MultiDiscrete([2, 3]), (np.array([0, 1]), np.array([1, 0, 1]))),
        (spaces.MultiDiscrete([[2], [3]]), np.array([0, 1, 1, 0, 1])),
        (spaces.MultiDiscrete([[2], [3]]), ((np.array([0, 1]),), (np.array([1, 0, 1]),))),
        (
            spaces.Dict(aim=spaces.Box(-1, 1), hands=spaces.Tuple([spaces.MultiBinary(2), spaces.Discrete(3)])),
            {"hands": (None, np.array([0, 0, 1]))},
        ),
        (spaces.Dict(move=spaces.Discrete(3), say=spaces.Discrete(2)), np.array([0, 1, 0, 0, 1])),
        (spaces.MultiDiscrete([2, 3]), np.ones((2, 3))),  # a mask of combinations is not supported
        (spaces.Box(-1, 1), np.ones(3)),
    ],
    ids=str,
)
def test_random_actions_are_allowed_by_the_mask(space: gymnasium.Space[Any], mask: Any) -> None:
    space.seed(0)
    actions = [random_action(space, mask) for _ in range(40)]
    assert all(space.contains(action) for action in actions), actions[0]
    if isinstance(space, spaces.Dict):
        if "hands" in space.spaces:
            assert {int(action["hands"][1]) for action in actions} == {2}
        else:
            assert {(int(action["move"]), int(action["say"])) for action in actions} == {(1, 1)}
    elif isinstance(space, spaces.Discrete):
        assert {int(action) for action in actions} == {3, 6}
    elif isinstance(space, spaces.MultiDiscrete) and not (isinstance(mask, np.ndarray) and mask.ndim == 2):
        assert {tuple(np.ravel(action)) for action in actions} == {(1, 0), (1, 2)}
