"""Contextual bandits, one for each kind of action. Importing this module registers the environments."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

SPACES: dict[str, gymnasium.Space[Any]] = {
    "Choice": Discrete(4, start=-2),
    "Levers": MultiDiscrete(np.array([[2], [3]]), start=np.array([[-1], [4]])),
    "Switches": MultiBinary([2, 2]),
    # Both bounds, only a lower one, only an upper one, none.
    "Knobs": Box(np.array([[-1, 0], [-np.inf, -np.inf]]), np.array([[0.1, np.inf], [1, np.inf]]), dtype=np.float64),
    "Sliders": Box(np.array([-0.1, 2.0]), np.array([0.7, 12.0]), dtype=np.float64),
    "Dial": Box(-2, 1, (), np.float32),
    "Notches": Box(np.array([[1], [-2]]), np.array([[3], [4]]), dtype=np.int32),
}
PARTS = {
    "Gamepad": Dict({"stick": SPACES["Sliders"], "buttons": SPACES["Switches"], "menu": SPACES["Choice"]}),
    "Desk": Tuple([SPACES["Levers"], Dict({"dial": SPACES["Dial"], "menu": SPACES["Choice"]})]),
}
SPACES.update(PARTS)


def _targets(space: gymnasium.Space[Any]) -> dict[int, Any]:
    if isinstance(space, Box) and space.dtype.kind == "i":
        return {1: space.low, -1: space.high}
    if isinstance(space, Box):
        middle = np.clip(0.0, space.low + 0.5, space.high - 0.5)
        if np.isfinite(space.low).all() and np.isfinite(space.high).all():
            return {1: 0.7 * space.high + 0.3 * space.low, -1: 0.2 * space.high + 0.8 * space.low}
        return {1: middle + 0.5, -1: middle - 0.5}
    if isinstance(space, Discrete):
        return {1: space.start, -1: space.start + space.n - 1}
    if isinstance(space, MultiDiscrete):
        return {1: space.start, -1: space.start + space.nvec - 1}
    return {1: np.eye(2), -1: 1 - np.eye(2)}


def _off(space: gymnasium.Space[Any], action: Any, side: int) -> float:
    if isinstance(space, Dict):
        return float(np.mean([_off(part, action[key], side) for key, part in space.items()]))
    if isinstance(space, Tuple):
        return float(np.mean([_off(part, one, side) for part, one in zip(space, action, strict=True)]))
    if not isinstance(space, Discrete):
        assert isinstance(action, np.ndarray) or space.shape == ()  # as in gymnasium's vector environments
        assert (action.dtype, action.shape) == (space.dtype, space.shape)
    target, other = _targets(space)[side], _targets(space)[-side]
    off = np.square((action - target) / (target - other)) if isinstance(space, Box) else action != target
    return float(np.mean(off))


class Bandit(gymnasium.Env[Any, Any]):
    """Ten pulls per episode. The observation, +1 or -1, selects one of two targets.

    The reward of a pull is 1 minus the mean error of its components. The error of a discrete component is 0 or 1. The
    error of a continuous component is the squared distance from the target, relative to the distance of the targets.
    """

    observation_space = Box(-1, 1, (1,), np.float32)

    def __init__(self, name: str) -> None:
        self.action_space = SPACES[name]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._left = 10
        return self._look(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self._left -= 1
        off = _off(self.action_space, action, self._side)
        return self._look(), 1 - off, False, self._left == 0, {}

    def _look(self) -> Any:
        self._side = 1 if self.np_random.random() < 0.5 else -1
        return np.array([self._side], np.float32)


for bandit in SPACES:
    gymnasium.register(f"{bandit}-v0", Bandit, kwargs={"name": bandit})
