"""Environments with known transitions. Importing this module registers them."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

ENDED = -1.0  # the step in a final observation; a policy must never act on it


class Scripted(gymnasium.Env[Any, Any]):
    """Episode e since the last seeded reset lasts ``lengths[e]`` steps. Even ones terminate, odd ones are truncated.

    The observation is (slot, episode, step), and the reward encodes these and the action, which identifies every row
    of a trajectory. With ``both``, episodes terminate and are truncated at the same time.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - as gymnasium declares it

    def __init__(self, slot: int = 0, lengths: tuple[int, ...] = (3, 1, 5, 2), both: bool = False) -> None:
        self.observation_space = Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = Discrete(2)
        self._slot, self._lengths, self._both = slot, lengths, both
        self._episode, self._step = -1, 0
        self._ended = True
        self.seeds: list[int] = []
        self.closed = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.seeds.append(seed)
            self._episode = -1
        self._episode += 1
        self._step, self._ended = 0, False
        return self._observation(0), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert not self._ended, "stepped after the end"
        assert action in (0, 1)
        reward = reward_of(self._slot, self._episode, self._step, int(action))
        self._step += 1
        self._ended = self._step == self._lengths[self._episode % len(self._lengths)]
        terminated = self._ended and (self._both or self._episode % 2 == 0)
        truncated = self._ended and (self._both or self._episode % 2 == 1)
        return self._observation(ENDED if self._ended else self._step), reward, terminated, truncated, {}

    def close(self) -> None:
        self.closed = True

    def _observation(self, step: float) -> np.ndarray:
        return np.array([self._slot, self._episode, step], np.float32)


def reward_of(slot: int, episode: int, step: int, action: int) -> float:
    return slot * 10_000 + episode * 100 + step + action / 2


class Faulty(gymnasium.Env[Any, Any]):
    """Episodes of four steps. Most values of ``fault`` take effect at step 2; "none" has no effect."""

    def __init__(self, fault: str = "none", action: str = "discrete") -> None:
        self.observation_space = Box(0, 10, (3,), np.uint8 if fault == "floats in bytes" else np.float32)
        self.action_space = Discrete(2) if action == "discrete" else Box(-1, 1, (2,), np.float64)
        self._fault = fault
        self._t = self._resets = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._t = 0
        self._resets += 1
        if self._fault == "reset raises" or (self._fault == "second reset raises" and self._resets > 1):
            raise OSError("the simulator is gone")
        if self._fault == "first shape":
            return np.zeros(4, np.float32), {}
        if self._fault == "floats in bytes":
            return np.zeros(3), {}
        return np.zeros(3, np.int64 if self._fault == "integers first" else np.float32), {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self._t += 1
        observation, reward = np.full(3, self._t + 0.5, np.float32), 1.0
        if self._t in (2, 3) and self._fault == "huge reward":
            return observation, 1e308, False, False, {}
        if self._t == 2:
            if self._fault == "step raises":
                raise OSError("the simulator is gone")
            if self._fault == "nan observation":
                observation[1] = np.nan
            if self._fault == "infinite observation":
                observation[1] = np.inf
            if self._fault == "large reward":
                reward = 1e300
            if self._fault == "nan reward":
                reward = float("nan")
            if self._fault == "no reward":
                return observation, None, False, False, {}
            if self._fault == "shape":
                observation = observation[:2]
            if self._fault == "broadcast shape":
                observation = observation[:1]
            if self._fault == "scalar":
                return 1.0, reward, False, False, {}
        return observation, reward, self._t == 4, False, {}


class Aim(gymnasium.Env[Any, Any]):
    """Episodes of ten steps. The reward is minus the squared distance from a target that the observation gives."""

    observation_space = Box(-1, 1, (2,), np.float64)
    action_space = Box(-3, 3, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._left = 10
        return self._look(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        target = np.array([self._seen[0] - self._seen[1], 0.5])
        self._left -= 1
        return self._look(), -float(((action - target) ** 2).sum()), False, self._left == 0, {}

    def _look(self) -> Any:
        self._seen = self.np_random.uniform(-1, 1, 2)
        return self._seen


class NeedsMore(gymnasium.Env[Any, Any]):
    """Behaves like a gymnasium environment whose extra is not installed."""

    def __init__(self) -> None:
        raise gymnasium.error.DependencyNotInstalled(
            'robots are not installed, run `pip install "gymnasium[robots-and-more]"`'
        )


class Listing(Faulty):
    """Observations are lists of any length, which are not supported."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = gymnasium.spaces.Sequence(Discrete(3))


gymnasium.register("Scripted-v0", Scripted)
gymnasium.register("Listing-v0", Listing)
gymnasium.register("Faulty-v0", Faulty)
gymnasium.register("Target-v0", Aim)
gymnasium.register("NeedsMore-v0", NeedsMore)
