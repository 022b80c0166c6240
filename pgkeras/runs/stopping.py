"""Conditions to stop at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.runs.counters import WINDOW
from pgkeras.runs.run import Callback, Run
from pgkeras.settings.groups import RunSettings

if TYPE_CHECKING:  # or the command line would wait for TensorFlow
    from pgkeras.runs.metrics import EpochMetrics

__all__ = ["Plateau", "ReturnReached", "StepLimit", "StopCondition", "TimeLimit", "share_of_limits", "time_is_over"]


class StopCondition(Callback):
    """Stops the run as soon as there is a reason to."""

    def reason(self, training: Run) -> str | None:
        """Why to stop now, in words that follow "Stopped: "; None to go on."""
        raise NotImplementedError

    def on_start(self, training: Run) -> None:
        """A run that is resumed may have been stopped by the same reason before."""
        self._check(training)

    def on_epoch(self, training: Run, metrics: EpochMetrics) -> None:
        """Asks for the reason."""
        self._check(training)

    def _check(self, training: Run) -> None:
        if (reason := self.reason(training)) is not None:
            training.stop(reason)


class StepLimit(StopCondition):
    """Stops after ``steps`` environment steps."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def reason(self, training: Run) -> str | None:
        """See :meth:`StopCondition.reason`."""
        return f"{self._steps:,} steps are done" if training.env_steps >= self._steps else None


class TimeLimit(StopCondition):
    """Stops after ``seconds`` of training: of both phases, without setup and evaluations."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def reason(self, training: Run) -> str | None:
        """See :meth:`StopCondition.reason`."""
        return time_is_over(self._seconds) if training.seconds >= self._seconds else None


def share_of_limits(config: RunSettings, steps: int, seconds: float) -> float:
    """How much of a run is over, from 0 to 1, by the limit of steps or of time that will end it first."""
    return min(1.0, max(steps / config.steps, seconds / config.time_limit if config.time_limit else 0.0))


def time_is_over(seconds: float) -> str:
    """The reason of a run that stops at its time limit."""
    return f"{seconds:g} s of training are over"


class ReturnReached(StopCondition):
    """Stops when the mean return of the last hundred training episodes reaches ``threshold``.

    ``at`` is when it did: seconds of training and environment steps.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self.at: tuple[float, int] | None = None

    def reason(self, training: Run) -> str | None:
        """See :meth:`StopCondition.reason`."""
        if training.episodes < WINDOW or not training.mean_return_100 >= self._threshold:
            self.at = None  # it may have been reached by an easier standard, before the run was resumed
            return None
        self.at = self.at or (training.seconds, training.env_steps)
        return f"the last {WINDOW} episodes returned {self._threshold:g} or more on average"

    def state(self) -> dict[str, NDArray[Any]]:
        """See :meth:`Callback.state`."""
        return {"at": np.array(self.at or ())}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """See :meth:`Callback.restore`."""
        self.at = (float(state["at"][0]), int(state["at"][1])) if state["at"].size else None


class Plateau(StopCondition):
    """Stops when the mean return of the last hundred episodes has not risen for ``steps`` environment steps."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._best = -math.inf
        self._best_at = 0

    def reason(self, training: Run) -> str | None:
        """See :meth:`StopCondition.reason`."""
        # The mean of fewer episodes says too little to be a record.
        if training.episodes < WINDOW or training.mean_return_100 > self._best:
            self._best = training.mean_return_100 if training.episodes >= WINDOW else -math.inf
            self._best_at = training.env_steps
        if training.env_steps - self._best_at < self._steps:
            return None
        return f"the mean return of the last {WINDOW} episodes has not risen for {self._steps:,} steps"

    def state(self) -> dict[str, NDArray[Any]]:
        """See :meth:`Callback.state`."""
        return {"best": np.array(self._best), "best_at": np.array(self._best_at)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """See :meth:`Callback.restore`."""
        self._best, self._best_at = float(state["best"]), int(state["best_at"])
