"""Small tasks: one with any number of actions, and two whose best policy is stochastic."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

__all__ = ["Aim", "RockPaperScissors", "SwitchedCorridor"]


class Aim(gymnasium.Env[NDArray[np.float32], Any]):
    """Eight shots at targets on a line from 0 to 1. The reward of each is 1 minus twice its distance.

    Random aiming returns 2.7 on average, aiming at the middle 4, and aiming at the target 8. With n choices the line is
    divided into n parts, and a shot hits the middle of one.

    Args:
        choices: Number of parts; None for a continuous action.
    """

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)

    def __init__(self, choices: int | None = None) -> None:
        self._choices = choices
        self.action_space = (
            gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32) if choices is None else gymnasium.spaces.Discrete(choices)
        )
        self._shots = 0
        self._target = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Sets the first target."""
        super().reset(seed=seed)
        self._shots = 0
        return self._next(), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Shoots."""
        shot = float(action[0]) if self._choices is None else (int(action) + 0.5) / self._choices
        reward = 1.0 - 2.0 * abs(shot - self._target)
        self._shots += 1
        return self._next(), reward, self._shots == 8, False, {}

    def _next(self) -> NDArray[np.float32]:
        self._target = float(self.np_random.uniform())
        return np.array([self._target], np.float32)


class SwitchedCorridor(gymnasium.Env[NDArray[np.float32], Any]):
    """Three identical rooms; in the second, left and right are switched (Sutton & Barto, example 13.1).

    A step costs 1 until the goal after the third room. Going right with probability 0.59 returns -11.6, the optimum.
    Always going the same way never reaches the goal.
    """

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    _room = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Starts in the first room."""
        super().reset(seed=seed)
        self._room = 0
        return np.ones(1, np.float32), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Goes left (0) or right (1)."""
        right = (int(action) == 1) != (self._room == 1)
        self._room = self._room + 1 if right else max(0, self._room - 1)
        return np.ones(1, np.float32), -1.0, self._room == 3, False, {}


class RockPaperScissors(gymnasium.Env[NDArray[np.float32], Any]):
    """Thirty rounds against an opponent that counters the most frequent action so far.

    A win is worth 1, a loss -1. Observations never change. Uniformly random actions return 0, the optimum for a policy
    without memory. Always playing the same action returns -29 on average.
    """

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(3)  # rock, paper, scissors: each is beaten by the next

    def __init__(self) -> None:
        self._played = np.zeros(3, np.int64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Resets the counts of actions."""
        super().reset(seed=seed)
        self._played[:] = 0
        return np.ones(1, np.float32), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Plays a round."""
        favourites = np.flatnonzero(self._played == self._played.max())
        answer = (int(self.np_random.choice(favourites)) + 1) % 3
        reward = (0.0, 1.0, -1.0)[(int(action) - answer) % 3]
        self._played[int(action)] += 1
        return np.ones(1, np.float32), reward, self._played.sum() == 30, False, {}
