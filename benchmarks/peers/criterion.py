"""The stopping criterion of a peer's run, and its report. Imports only the standard library.

pgkeras's constants cannot be imported, because its packages are not in the peers' environment.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import deque
from importlib.metadata import version

WINDOW = 100  # training episodes
THRESHOLD = 475.0  # CartPole-v1's reward threshold


def parse_arguments(description: str | None, algorithms: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithm", choices=algorithms, default=algorithms[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--time-limit", type=float, default=math.inf, help="seconds of training")
    parser.add_argument("--max-steps", type=int, default=1_000_000, help="environment steps")
    return parser.parse_args()


class Criterion:
    """Tracks a run's training episodes and decides when it ends.

    Args:
        time_limit: Seconds of training after which the run is stopped.
        max_steps: Environment steps after which the run is stopped.
    """

    def __init__(self, time_limit: float, max_steps: int) -> None:
        self.time_limit = time_limit
        self.max_steps = max_steps
        self.steps = self.episodes = 0
        self.solved = False
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._made = self._imported = self._began = time.perf_counter()

    def imported(self) -> None:
        """Marks the end of the imports."""
        self._imported = time.perf_counter()

    def begin(self) -> None:
        """Marks the end of the setup and the start of training."""
        self._began = time.perf_counter()

    def finish_episode(self, episode_return: float) -> None:
        """Counts one training episode."""
        self.episodes += 1
        self._recent.append(episode_return)
        self.solved = self.solved or (len(self._recent) == WINDOW and self._mean_return() >= THRESHOLD)

    def measured(self, steps: int, episodes: int, mean_return: float | None) -> None:
        """Sets the library's mean return of the last :data:`WINDOW` episodes; None if none has ended."""
        self.steps, self.episodes = steps, episodes
        self._recent = deque([] if mean_return is None else [mean_return], maxlen=1)
        self.solved = episodes >= WINDOW and mean_return is not None and mean_return >= THRESHOLD

    @property
    def finished(self) -> bool:
        """Whether the environment is solved or a limit has been reached."""
        out_of_time = time.perf_counter() - self._began >= self.time_limit
        return self.solved or self.steps >= self.max_steps or out_of_time

    def report(self, seed: int, packages: list[str]) -> None:
        """Prints the outcome as one line of JSON. The time of training ends with this call."""
        seconds = time.perf_counter() - self._began
        result = {
            "seed": seed,
            "solved": self.solved,
            "seconds": seconds,
            "steps": self.steps,
            "episodes": self.episodes,
            "mean_return_100": self._mean_return() if self._recent else None,
            "import_seconds": self._imported - self._made,
            "setup_seconds": self._began - self._imported,
            "versions": {package: version(package) for package in packages},
        }
        print(json.dumps(result), flush=True)

    def _mean_return(self) -> float:
        return sum(self._recent) / len(self._recent)
