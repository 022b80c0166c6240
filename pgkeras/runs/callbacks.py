"""Callbacks: observe a run after every epoch, and can stop it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.bundle.retention import prune
from pgkeras.errors import BundleError, RunError
from pgkeras.runs.counters import WINDOW
from pgkeras.runs.run import Best, Callback, Run
from pgkeras.runs.stopping import Plateau, ReturnReached, StepLimit, StopCondition, TimeLimit
from pgkeras.settings.config import Config

if TYPE_CHECKING:  # or the command line would wait for TensorFlow
    from pgkeras.runs.metrics import EpochMetrics

__all__ = [
    "WINDOW",
    "Best",
    "Callback",
    "Callbacks",
    "Evaluate",
    "Plateau",
    "Publish",
    "ReturnReached",
    "Run",
    "StepLimit",
    "StopCondition",
    "TimeLimit",
    "configured",
    "evaluation_modes",
]


logger = logging.getLogger(__name__)


class Publish(Callback):
    """Publishes the policy every so often while it trains: the best so far or, without evaluations, the last.

    Into a directory that a server serves, this is a deployment. What was published already is not published again.

    Args:
        root: Directory of policies.
        name: The policy's name; by default the environment's.
        seconds: Shortest time between two publications, in seconds of training.
        keep: How many of the newest versions to keep, beside those that a label names; None for all.
    """

    def __init__(self, root: Path, name: str | None, seconds: float, keep: int | None = None) -> None:
        self._named, self._root = Path(root), Path(root).absolute()  # an environment may change the working directory
        self._name = name
        self._seconds = seconds
        self._keep = keep
        self._due = 0.0
        self._published = 0
        self.paths: list[Path] = []
        """The versions that were published, the first first."""

    def on_start(self, training: Run) -> None:
        """The first time is one interval away."""
        self._due = training.seconds + self._seconds

    def on_epoch(self, training: Run, metrics: EpochMetrics) -> None:
        """Publishes if it is time to; of several processes that train together, the first."""
        if training.leads and training.seconds >= self._due:
            self._due = training.seconds + self._seconds
            try:
                self.publish(training)
            except (BundleError, RunError) as error:
                logger.warning("%s; it is tried again after %g s of training", error, self._seconds)

    def publish(self, training: Run) -> None:
        """Publishes unless it has been done."""
        epoch = training.epoch if training.best is None else training.best.epoch
        if epoch != self._published:
            published = training.export(self._root, self._name).path
            self.paths.append(self._named / published.relative_to(self._root))
            self._published = epoch
            if self._keep is not None:
                _prune(published.parent, self._keep)


def _prune(policy_dir: Path, keep: int) -> None:
    try:
        prune(policy_dir, keep)
    except BundleError as error:  # what was published is there all the same
        logger.warning("old versions stay: %s", error)


class Evaluate(Callback):
    """Plays episodes that nothing is learnt from, and keeps the policy that did best in them.

    Every evaluation starts from the same seeds, which no training episode has, so that policies are compared on equal
    terms. The policy of a run's last epoch is evaluated, too, but for an epoch that a time limit cuts short. What an
    interruption breaks off, in whichever mode, is played anew when the run is resumed.

    Args:
        every: Epochs from one evaluation to the next.
        episodes: How many episodes to play in each mode.
        modes: "greedy", "sample", or both; the first says which policy is best.
    """

    def __init__(self, every: int, episodes: int, modes: Sequence[str]) -> None:
        self._every = every
        self._episodes = episodes
        self._modes = modes
        self._owed = False

    def on_start(self, training: Run) -> None:
        """Evaluates, if that was broken off."""
        if self._owed and training.directory is not None:
            training.directory.forget_evaluations(training.epoch)  # made up for already, by a run that was killed then
        self._evaluate(training)

    def on_epoch(self, training: Run, metrics: EpochMetrics) -> None:
        """Evaluates, if it is time to or the run is about to end."""
        self._owed = not metrics.epoch % self._every or training.finished
        self._evaluate(training)

    def state(self) -> dict[str, NDArray[Any]]:
        """See :meth:`Callback.state`."""
        return {"owed": np.array(self._owed)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """See :meth:`Callback.restore`."""
        self._owed = bool(state["owed"])

    def _evaluate(self, training: Run) -> None:
        if not self._owed or training.interrupted:
            return
        played = {mode: training.evaluate(self._episodes, mode) for mode in self._modes}
        self._owed = False
        for mode, evaluation in played.items():
            training.report(**{f"evaluation_{mode}": evaluation.mean})
            if training.directory is not None:
                counters = {"epoch": training.epoch, "env_steps": training.env_steps, "mode": mode}
                training.directory.write_evaluation({**counters, **evaluation.to_json()})
        training.keep_best(played[self._modes[0]].mean)


class Callbacks:
    """The callbacks of one run, in the order in which they are called.

    Args:
        config: Settings.
        stop_return: The return to stop at, from the settings or the environment; None for none.
        others: A user's own, which come after the conditions to stop at and before evaluations.
    """

    def __init__(self, config: Config, stop_return: float | None, others: Sequence[Callback]) -> None:
        stops, after = configured(config, stop_return)
        self._goal = next((stop for stop in stops if isinstance(stop, ReturnReached)), None)
        self.before: list[Callback] = [*stops, *others]
        """Those that may stop the run."""
        self.evaluations: list[Callback] = [*after]
        """Those that come after them, and play episodes."""

    def __iter__(self) -> Iterator[Callback]:
        return chain(self.before, self.evaluations)

    def __reversed__(self) -> Iterator[Callback]:
        return chain(reversed(self.evaluations), reversed(self.before))

    @property
    def solved_at(self) -> tuple[float, int] | None:
        """Seconds of training and environment steps after which the return to stop at was reached; None before."""
        return self._goal.at if self._goal is not None else None

    def state(self) -> dict[str, NDArray[Any]]:
        """The state of all by name, for the checkpoint."""
        return {prefix + key: value for prefix, one in self._named() for key, value in one.state().items()}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restores the :meth:`state` of those that have one; there may be other arrays beside it."""
        for prefix, callback in self._named():
            own = {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}
            if own:
                callback.restore(own)

    def _named(self) -> Iterator[tuple[str, Callback]]:
        """Every callback with the prefix of its names in a checkpoint, which the others' presence does not change."""
        seen: Counter[str] = Counter()
        for callback in self:
            name = type(callback).__name__
            yield f"callback_{name}_{seen[name]}_", callback
            seen[name] += 1


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
