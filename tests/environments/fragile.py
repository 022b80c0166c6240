"""Environments that are slow, endless or crash. Importing this module registers them."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete


class Fragile(gymnasium.Env[Any, Any]):
    """Environment whose rewards are the actions.

    Args:
        length: Steps per episode; 0 for episodes that never end.
        seconds: Duration of a step.
        crash: Path of a file with the number of times that the process kills itself at a random step; without the file
            it never does.
        hangs_after: Index of the step of an episode that blocks and catches exceptions; 0 for none.
    """

    def __init__(self, length: int = 20, seconds: float = 0.0, crash: str = "", hangs_after: int = 0) -> None:
        self.observation_space = Box(-1.0, 1.0, (3,), np.float32)
        self.action_space = Discrete(2)
        self._length, self._seconds, self._crash, self._hangs_after = length, seconds, crash, hangs_after

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        time.sleep(self._seconds)
        self._steps += 1
        if self._steps == self._hangs_after:
            with contextlib.suppress(Exception):
                time.sleep(3600)
        if self._crash and self.np_random.random() < 0.005 and (file := Path(self._crash)).exists():
            left = int(file.read_text()) - 1
            file.write_text(str(left)) if left else file.unlink()
            os.kill(os.getpid(), 9)
        return self._observation(), float(action), self._steps == self._length, False, {}

    def _observation(self) -> np.ndarray:
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)


gymnasium.register("Fragile-v0", Fragile)


class OldGym(Fragile):
    """Environment with the interface of the old Gym."""

    def step(self, action: Any) -> Any:
        observation, reward, terminated, _, info = super().step(action)
        return observation, reward, terminated, info


gymnasium.register("OldGym-v0", OldGym)


class Leaves(Fragile):
    """Environment that leaves a thread running."""

    def __init__(self) -> None:
        super().__init__()
        threading.Thread(target=time.sleep, args=(60,), name="left-behind").start()


gymnasium.register("Leaves-v0", Leaves)
