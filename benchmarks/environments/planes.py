"""MiniGrid's observations as planes of 0 and 1, with only the actions that a task needs."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete
from numpy.typing import NDArray

__all__ = ["DONE", "PICK_UP", "Planes"]

_OBJECTS, _COLORS, _STATES = 11, 6, 3
_PLANES = _OBJECTS + _COLORS + _STATES
# The planes of every kind, color and state, in this order: [198, 20].
_ONE_HOT = np.array(
    [
        np.concatenate([np.eye(n, dtype=np.uint8)[i] for n, i in zip((_OBJECTS, _COLORS, _STATES), cell, strict=True)])
        for cell in np.ndindex(_OBJECTS, _COLORS, _STATES)
    ]
)
_LEFT, _RIGHT, _FORWARD, PICK_UP, DONE = 0, 1, 2, 3, 6  # as MiniGrid numbers its actions


class Planes(gymnasium.Wrapper[Any, np.int64, dict[str, Any], int]):
    """A MiniGrid task whose observations are planes of 0 and 1.

    MiniGrid encodes kinds of objects, colors and states as numbers in one byte each. A network would interpret them as
    magnitudes, so each kind, color and state has its own plane here. Actions are left, right, forward and at most one
    more; these tasks do not need MiniGrid's other actions.

    Args:
        env: The task, with MiniGrid's default observations.
        fourth: MiniGrid's number of the fourth action; None for three actions.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], fourth: int | None = None) -> None:
        super().__init__(env)
        space = env.observation_space
        assert isinstance(space, Dict)
        height, width, _ = space["image"].shape or ()
        self.observation_space = Box(0, 1, (height, width, _PLANES), np.uint8)
        self._actions = [_LEFT, _RIGHT, _FORWARD] + ([] if fourth is None else [fourth])
        self.action_space = Discrete(len(self._actions))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._look(observation), info

    def step(self, action: np.int64) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Turns left (0) or right (1), walks (2), or takes the fourth action (3), if there is one."""
        observation, reward, terminated, truncated, info = self.env.step(self._actions[action])
        return self._look(observation), float(reward), terminated, truncated, info

    def _look(self, observation: dict[str, Any]) -> Any:
        image: NDArray[np.uint8] = observation["image"]
        numbers = image[..., 0] * (_COLORS * _STATES) + image[..., 1] * _STATES + image[..., 2]
        return _ONE_HOT[numbers]
