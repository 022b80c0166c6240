"""Memory: a T-maze, which no policy without memory can solve."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

__all__ = ["TMaze"]

Observation = NDArray[np.float32]

LEFT, RIGHT, FORWARD = 0, 1, 2


class TMaze(gymnasium.Env[Observation, np.int64]):
    """A corridor that ends in a junction. A sign at its start says which way to turn there (Bakker 2002).

    The observation is one of four unit vectors: a sign to the left, a sign to the right, the corridor, the junction.
    Actions are left, right and forward. Turning in the corridor and going forward at the junction have no effect.
    Turning at the junction ends the episode, with a reward of 1 for the direction of the sign and 0 for the other.
    After ``4 * (length + 1)`` steps the episode is truncated.

    A policy with memory can return 1. A memoryless policy turns left at the junction with the same probability for both
    signs, so its expected return is at most 1/2. Walking straight and turning at random reaches that.

    Bakker, "Reinforcement learning with long short-term memory", Advances in Neural Information Processing Systems 14,
    2002, section 4.1, where the length of the corridor is also a parameter.

    Args:
        length: Steps from the sign to the junction, at least 1.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - as gymnasium declares it

    def __init__(self, length: int = 10) -> None:
        if length < 1:
            raise ValueError(f"length: expected at least 1, got {length}")
        self.observation_space = gymnasium.spaces.Box(0, 1, (4,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(3)
        self.length = length
        self._sign = LEFT
        self._position = self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draws a sign with equal probabilities. The option ``sign`` (0 for left, 1 for right) sets it."""
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(2))
        self._sign = (options or {}).get("sign", drawn)
        self._position = self._steps = 0
        return self._look(), {}

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Turns or walks."""
        self._steps += 1
        at_junction = self._position == self.length
        turned = at_junction and action != FORWARD
        if action == FORWARD and not at_junction:
            self._position += 1
        reward = float(turned and action == self._sign)
        return self._look(), reward, turned, not turned and self._steps >= 4 * (self.length + 1), {}

    def _look(self) -> Observation:
        seen = self._sign if self._position == 0 else 3 if self._position == self.length else 2
        return np.eye(4, dtype=np.float32)[seen]
