"""Environments with faults, and wrappers. Importing this module registers the environments."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete


class Unruly(gymnasium.Env[Any, Any]):
    """Episodes of 5 to 9 steps. ``fault`` happens at step ``at``, counted over all episodes.

    The observation is (a random number, the last action, the steps left), and odd episodes are truncated.
    """

    def __init__(self, fault: str = "none", at: int = 40) -> None:
        self.observation_space = Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = Discrete(2)
        self._fault, self._at = fault, at
        self._steps = self._episodes = 0
        if fault == "making hangs":
            time.sleep(3600)
        self._buffer = np.zeros(3, np.float32)  # reused for every observation

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self._episodes = 0
        self._episodes += 1
        self._left = int(self.np_random.integers(5, 10))
        if self._fault == "reset hangs":
            time.sleep(3600)
        return self._look(0), {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self._steps += 1
        self._left -= 1
        ended = self._left == 0
        terminated, truncated = ended and self._episodes % 2 == 0, ended and self._episodes % 2 == 1
        observation, reward = self._look(float(action)), float(self.np_random.normal())
        if self._steps == self._at:
            observation, reward = self._misbehave(observation, reward)
        if truncated and self._steps >= self._at and self._fault.endswith("at truncation"):
            observation = observation * np.nan if self._fault.startswith("nan") else observation[:2]
        if terminated and self._fault == "nan at termination":
            observation = observation * np.nan
        return observation, reward, terminated, truncated, {}

    def _misbehave(self, observation: Any, reward: Any) -> tuple[Any, Any]:  # noqa: PLR0911, PLR0912
        match self._fault:
            case "raise":
                raise OSError("the simulator is gone")
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exits":
                os._exit(3)
            case "sleeps":
                time.sleep(3600)
            case "spins":
                while True:
                    pass
            case "swallows":
                while True:
                    with contextlib.suppress(Exception):
                        time.sleep(0.01)
            case "nan observation":
                return observation * np.nan, reward
            case "shape":
                return observation[:2], reward
            case "text":
                return "lost", reward
            case "nan reward":
                return observation, float("nan")
            case "unsendable reward":
                return observation, Unsendable()
            case "unsendable observation":
                return Unsendable(), reward
            case "rewards":
                return observation, np.zeros(2)
        return observation, reward

    def _look(self, action: float) -> Any:
        self._buffer[:] = self.np_random.normal(), action, self._left
        return self._buffer


class Unsendable:
    """Cannot be pickled."""

    def __reduce__(self) -> Any:
        raise TypeError("this stays here")

    def __repr__(self) -> str:
        return "Unsendable()"


class Centred(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Subtracts the running mean of the observations."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.running_mean, self._seen = np.zeros(env.observation_space.shape or ()), 0

    def observation(self, observation: Any) -> Any:
        self._seen += 1
        self.running_mean += (observation - self.running_mean) / self._seen
        return (observation - self.running_mean).astype(np.float32)


class Doubled(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Multiplies observations by ``factor``."""

    def __init__(self, env: gymnasium.Env[Any, Any], factor: float = 2.0) -> None:
        super().__init__(env)
        self._factor = factor

    def observation(self, observation: Any) -> Any:
        return (observation * self._factor).astype(np.float32)


class Shifted(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Adds 1 to observations."""

    def observation(self, observation: Any) -> Any:
        return observation + np.float32(1)


class Parted(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Puts the observation into one of two parts. The other part is constant."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = Dict({"seen": Dict({"all": env.observation_space}), "a": Discrete(3)})

    def observation(self, observation: Any) -> Any:
        return {"seen": {"all": observation}, "a": 1}


class PartsMasked(gymnasium.Env[Any, Any]):
    """Structured actions, one part of which allows only its last two values. Episodes have 2 to 9 steps."""

    observation_space = Box(-1, 1, (2,), np.float32)
    action_space = Dict({"move": Discrete(3), "turn": Box(-1, 1, (1,), np.float32)})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._left = int(self.np_random.integers(2, 10))
        return np.zeros(2, np.float32), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert action["move"] > 0
        self._left -= 1
        return np.zeros(2, np.float32), 1.0, self._left == 0, False, self._info()

    def _info(self) -> dict[str, Any]:
        return {"action_mask": {"move": np.array([0, 1, 1], np.int8)}}


gymnasium.register("Unruly-v0", Unruly)
gymnasium.register("PartsMasked-v0", PartsMasked)
