"""MiniGrid's observations as planes of 0 and 1, and of its actions those that a task has a use for."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete
from numpy.typing import NDArray

__all__ = ["DONE", "PICK_UP", "Planes"]

_OBJECTS, _COLOURS, _STATES = 11, 6, 3
_PLANES = _OBJECTS + _COLOURS + _STATES
# The planes of every kind, colour and state, in this order: [198, 20].
_ONE_HOT = np.array(
    [
        np.concatenate([np.eye(n, dtype=np.uint8)[i] for n, i in zip((_OBJECTS, _COLOURS, _STATES), cell, strict=True)])
        for cell in np.ndindex(_OBJECTS, _COLOURS, _STATES)
    ]
)
_LEFT, _RIGHT, _FORWARD, PICK_UP, DONE = 0, 1, 2, 3, 6  # as MiniGrid numbers its actions


class Planes(gymnasium.Wrapper[Any, np.int64, dict[str, Any], int]):
    """A MiniGrid task as a policy's input: what is seen as planes of 0 and 1.

    MiniGrid numbers kinds of object, colours and states in one byte each, which says nothing to a network that takes
    bytes for magnitudes; here each kind, colour and state has a plane of its own. Actions are left, right, forward and
    at most one more; MiniGrid's others have no use in these tasks.

    Args:
        env: The task, with MiniGrid's usual observations.
        fourth: MiniGrid's number of the fourth action; none for three actions.
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
        """Turns left (0) or right (1), walks (2), or takes the fourth action (3), where there is one."""
        observation, reward, terminated, truncated, info = self.env.step(self._actions[action])
        return self._look(observation), float(reward), terminated, truncated, info

    def _look(self, observation: dict[str, Any]) -> Any:
        image: NDArray[np.uint8] = observation["image"]
        numbers = image[..., 0] * (_COLOURS * _STATES) + image[..., 1] * _STATES + image[..., 2]
        return _ONE_HOT[numbers]
