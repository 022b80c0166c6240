"""Callbacks: observe a run after every epoch, and can stop it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.settings.config import Config

if TYPE_CHECKING:
    from pgkeras.runs.training import EpochMetrics, Training

__all__ = [
    "WINDOW",
    "Callback",
    "Evaluate",
    "Plateau",
    "Publish",
    "ReturnReached",
    "StepLimit",
    "StopCondition",
    "TimeLimit",
    "configured",
    "evaluation_modes",
]

WINDOW = 100  # episodes whose mean return says how good the policy is while it trains


class Callback:
    """Watches a run. Every method does nothing until it is overridden.

    A callback may call :meth:`Training.stop`, :meth:`Training.report`, :meth:`Training.evaluate` and
    :meth:`Training.keep_best`. One that remembers something from epoch to epoch keeps it in :meth:`state`, so that a
    run that was stopped and resumed goes on as if it had not been.
    """

    def on_start(self, training: Training) -> None:
        """Called before the first epoch, and when a resumed run goes on."""

    def on_epoch(self, training: Training, metrics: EpochMetrics) -> None:
        """Called after every epoch."""

    def on_end(self, training: Training) -> None:
        """Called when the run finishes, for whatever reason, while its environments are still there."""

    def state(self) -> dict[str, NDArray[Any]]:
        """The callback's state by name, for the checkpoint."""
        return {}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restores a :meth:`state`. Not called if the checkpoint has none of this callback."""


class StopCondition(Callback):
    """Stops the run as soon as there is a reason to."""

    def reason(self, training: Training) -> str | None:
        """Why to stop now, in words that follow "Stopped: "; None to go on."""
        raise NotImplementedError

    def on_start(self, training: Training) -> None:
        """A run that is resumed may have been stopped by the same reason before."""
        self._check(training)

    def on_epoch(self, training: Training, metrics: EpochMetrics) -> None:
        """Asks for the reason."""
        self._check(training)

    def _check(self, training: Training) -> None:
        if (reason := self.reason(training)) is not None:
            training.stop(reason)


class StepLimit(StopCondition):
    """Stops after ``steps`` environment steps."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def reason(self, training: Training) -> str | None:
        """See :meth:`StopCondition.reason`."""
        return f"{self._steps:,} steps are done" if training.env_steps >= self._steps else None


class TimeLimit(StopCondition):
    """Stops after ``seconds`` of training: of both phases, without setup and evaluations."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def reason(self, training: Training) -> str | None:
        """See :meth:`StopCondition.reason`."""
        return f"{self._seconds:g} s of training are over" if training.seconds >= self._seconds else None


class ReturnReached(StopCondition):
    """Stops when the mean return of the last hundred training episodes reaches ``threshold``.

    ``at`` is when it did: seconds of training and environment steps.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self.at: tuple[float, int] | None = None

    def reason(self, training: Training) -> str | None:
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


class Publish(Callback):
    """Publishes the policy every so often while it trains: the best so far or, without evaluations, the last.

    Into a directory that a server serves, this is a deployment. What was published already is not published again.

    Args:
        root: Directory of policies.
        name: The policy's name; by default the environment's.
        seconds: Shortest time between two publications, in seconds of training.
    """

    def __init__(self, root: Path, name: str | None, seconds: float) -> None:
        self._root = root
        self._name = name
        self._seconds = seconds
        self._due = 0.0
        self._published = 0
        self.paths: list[Path] = []
        """The versions that were published, the first first."""

    def on_start(self, training: Training) -> None:
        """The first time is one interval away."""
        self._due = training.seconds + self._seconds

    def on_epoch(self, training: Training, metrics: EpochMetrics) -> None:
        """Publishes if it is time to."""
        if training.seconds >= self._due:
            self._due = training.seconds + self._seconds
            self.publish(training)

    def publish(self, training: Training) -> None:
        """Publishes unless it has been done."""
        epoch = training.epoch if training.best is None else training.best.epoch
        if epoch != self._published:
            self.paths.append(training.export(self._root, self._name).path)
            self._published = epoch


class Plateau(StopCondition):
    """Stops when the mean return of the last hundred episodes has not risen for ``steps`` environment steps."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._best = -math.inf
        self._best_at = 0

    def reason(self, training: Training) -> str | None:
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


class Evaluate(Callback):
    """Plays episodes that nothing is learnt from, and keeps the policy that did best in them.

    Every evaluation starts from the same seeds, which no training episode has, so that policies are compared on equal
    terms. The last policy of a run is evaluated, too.

    Args:
        every: Epochs from one evaluation to the next.
        episodes: How many episodes to play in each mode.
        modes: "greedy", "sample", or both; the first says which policy is best.
    """

    def __init__(self, every: int, episodes: int, modes: Sequence[str]) -> None:
        self._every = every
        self._episodes = episodes
        self._modes = modes

    def on_epoch(self, training: Training, metrics: EpochMetrics) -> None:
        """Evaluates, if it is time to or the run is about to end."""
        if metrics.epoch % self._every and not training.finished:
            return
        scores = []
        for mode in self._modes:
            played = training.evaluate(self._episodes, mode)
            scores.append(played.mean)
            training.report(**{f"evaluation_{mode}": played.mean})
            if training.directory is not None:
                counters = {"epoch": training.epoch, "env_steps": training.env_steps, "mode": mode}
                training.directory.write_evaluation({**counters, **played.to_json()})
        training.keep_best(scores[0])


def configured(config: Config, stop_return: float | None) -> tuple[list[StopCondition], list[Callback]]:
    """The callbacks that the settings ask for: the conditions to stop at, and those that come after a user's own.

    Args:
        config: Settings.
        stop_return: The return to stop at, from the settings or the environment; None for none.
    """
    stops: list[StopCondition] = [] if stop_return is None else [ReturnReached(stop_return)]
    stops.append(StepLimit(config.steps))
    if config.time_limit is not None:
        stops.append(TimeLimit(config.time_limit))
    if config.plateau_steps is not None:
        stops.append(Plateau(config.plateau_steps))
    if not config.evaluation_every:
        return stops, []
    return stops, [Evaluate(config.evaluation_every, config.evaluation_episodes, evaluation_modes(config))]


def evaluation_modes(config: Config) -> tuple[str, ...]:
    """How evaluations act, if there are any."""
    if not config.evaluation_every:
        return ()
    return ("greedy", "sample") if config.evaluation_mode == "both" else (config.evaluation_mode,)
