"""A custom environment: a corridor.

Train on it from this folder with

pgkeras train corridor:Corridor-v0
"""

from typing import Any

import gymnasium
import numpy as np


class Corridor(gymnasium.Env[np.ndarray, np.int64]):
    """Walk right to reach the end of a corridor. Every step has a small cost."""

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, length: int = 8) -> None:
        self.length = length
        self.position = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Moves the walker to the start."""
        super().reset(seed=seed, options=options)
        self.position = 0
        return self._observe(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Moves the walker left (0) or right (1)."""
        self.position = max(0, self.position + (1 if action == 1 else -1))
        arrived = self.position == self.length
        return self._observe(), 1.0 if arrived else -0.05, arrived, False, {}

    def _observe(self) -> np.ndarray:
        return np.array([self.position / self.length], np.float32)


gymnasium.register("Corridor-v0", entry_point=Corridor, max_episode_steps=100, reward_threshold=0.6)
