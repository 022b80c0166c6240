"""An environment with faults that occur only in Ray actors. Importing this module registers it."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

DRIVER = "PGKERAS_TEST_DRIVER"


class Trouble(gymnasium.Env[Any, Any]):
    """A walk on a line. In an actor, a fault occurs once for each file in a directory.

    Args:
        kind: "die" by SIGKILL, "hang", "raise", "slow" for 6 seconds in every long episode, or "" for no fault.
        places: A directory; each fault deletes one file from it.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, kind: str = "", places: str = "") -> None:
        self._kind, self._places = kind, Path(places)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._steps, self._end = 0, int(self.np_random.integers(5, 30))
        self._place = self.np_random.normal()
        if _in_actor() and "tensorflow" in sys.modules:
            raise RuntimeError("an actor has loaded TensorFlow")
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        self._steps += 1
        self._place += 0.5 if action else -0.5
        if self._kind == "slow":
            time.sleep(6 if _in_actor() and self._steps == 4 and self._end > 17 else 0)
        elif self._kind and _in_actor() and self._steps == 4 and self._takes_file():
            if self._kind == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if self._kind == "hang":
                time.sleep(600)
            raise RuntimeError("no more")
        return self._observation(), -abs(self._place), self._steps == self._end, False, {}

    def _observation(self) -> Any:
        return np.array([self._place, self._steps], np.float32)

    def _takes_file(self) -> bool:
        for file in self._places.iterdir():
            try:
                file.unlink()
            except FileNotFoundError:  # another actor took it
                continue
            return True
        return False


def _in_actor() -> bool:
    return os.environ[DRIVER] != str(os.getpid())


gymnasium.register("Trouble-v0", Trouble)


class Camera(gymnasium.Env[Any, Any]):
    """Observations are noise, large enough for the Nature CNN. Action 1 earns 1."""

    observation_space = spaces.Box(0, 255, (36, 36, 1), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._steps = 0
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        self._steps += 1
        return self._observation(), float(action), self._steps == 5, False, {}

    def _observation(self) -> Any:
        return self.np_random.integers(0, 256, (36, 36, 1)).astype(np.uint8)


gymnasium.register("Camera-v0", Camera)
