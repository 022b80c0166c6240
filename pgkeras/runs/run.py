"""The callback interface, and the part of a run that callbacks may use."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from numpy.typing import NDArray

from pgkeras.errors import ConfigError
from pgkeras.settings.config import Config

if TYPE_CHECKING:  # imports TensorFlow, which would slow the command line down
    from pgkeras.bundle.bundle import Bundle
    from pgkeras.evaluation.evaluation import Evaluation
    from pgkeras.policy.policy import Policy
    from pgkeras.runs.directory import RunDirectory
    from pgkeras.runs.metrics import EpochMetrics

__all__ = ["Best", "Callback", "Run"]


class Best(NamedTuple):
    """The policy with the highest score passed to :meth:`Run.keep_best` so far."""

    score: float
    epoch: int
    env_steps: int
    weights: list[NDArray[Any]]  # of :attr:`pgkeras.policy.policy.Policy.variables`


class Run(Protocol):
    """The interface of a run for callbacks, implemented by :class:`pgkeras.runs.training.Training`.

    Attributes:
        config: The settings.
        policy: The policy in training.
        directory: The run's files; None if the run writes no files.
        best: The best policy in evaluations; None before the first evaluation.
    """

    config: Config
    policy: Policy
    directory: RunDirectory | None
    best: Best | None

    @property
    def leads(self) -> bool:
        """Whether this process writes the files, if several processes train together."""
        ...

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        ...

    @property
    def env_steps(self) -> int:
        """Environment steps in the finished epochs."""
        ...

    @property
    def episodes(self) -> int:
        """Episodes in the finished epochs."""
        ...

    @property
    def seconds(self) -> float:
        """Seconds of training in both phases, without setup and evaluations."""
        ...

    @property
    def mean_return_100(self) -> float:
        """Mean return of the last 100 training episodes, or of all if there are fewer; NaN before the first."""
        ...

    @property
    def finished(self) -> bool:
        """Whether the run has a reason to stop."""
        ...

    @property
    def interrupted(self) -> bool:
        """Whether the run was interrupted and ends soon. Evaluations are then skipped."""
        ...

    def stop(self, reason: str) -> None:
        """Ends the run after this epoch. If it is called several times, the first reason is kept."""
        ...

    def report(self, **values: float) -> None:
        """Adds values by name to this epoch's line in ``metrics.jsonl``."""
        ...

    def evaluate(self, episodes: int, mode: str = "greedy") -> Evaluation:
        """Plays episodes with the current policy, without learning from them."""
        ...

    def keep_best(self, score: float) -> bool:
        """Keeps the current policy as the best one, which is exported, unless an earlier one scored higher."""
        ...

    def export(self, root: Path | str, name: str | None = None) -> Bundle:
        """Exports the best policy, or the last one if there were no evaluations."""
        ...


_OURS = {"on_train_begin": "on_start", "on_epoch_end": "on_epoch", "on_train_end": "on_end"}
_CALLED = {*_OURS, *_OURS.values()}


class Callback:
    """Base class of callbacks. All methods do nothing unless they are overridden.

    A callback may use everything in :class:`Run`. A callback that keeps data from epoch to epoch returns it from
    :meth:`state`. A resumed run then continues as if it had not been stopped.

    Keras' ``on_train_begin(logs)``, ``on_epoch_end(epoch, logs)`` and ``on_train_end(logs)`` are also called, with the
    zero-based number of the epoch and its metrics by name.

    Raises:
        ConfigError: A subclass has a method ``on_...`` that is never called. Raised when the class is defined.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in vars(cls):
            if name.startswith("on_") and name not in _CALLED:
                near = difflib.get_close_matches(name, _CALLED, n=1, cutoff=0.0)[0]
                raise ConfigError(
                    f"{cls.__name__}.{name} would never be called; did you mean {near}? A callback has the methods "
                    "on_start, on_epoch and on_end"
                )
            if (ours := _OURS.get(name)) in vars(cls):
                raise ConfigError(
                    f"{cls.__name__} defines {ours} and Keras' {name}, which are the same hook; remove one"
                )

    def on_start(self, training: Run) -> None:
        """Called before the first epoch, and before the first epoch of a resumed run."""
        self.on_train_begin()

    def on_epoch(self, training: Run, metrics: EpochMetrics) -> None:
        """Called after every epoch."""
        self.on_epoch_end(metrics.epoch - 1, metrics.record())

    def on_end(self, training: Run) -> None:
        """Called when the run ends for any reason, before its environments are closed."""
        self.on_train_end()

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """See :meth:`keras.callbacks.Callback.on_train_begin`."""

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """See :meth:`keras.callbacks.Callback.on_epoch_end`."""

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        """See :meth:`keras.callbacks.Callback.on_train_end`."""

    def state(self) -> dict[str, NDArray[Any]]:
        """The callback's state by name, for the checkpoint."""
        return {}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restores a :meth:`state`. Not called if the checkpoint contains no state of this callback."""
