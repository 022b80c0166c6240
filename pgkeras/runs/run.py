"""What a callback is, and what it may do to a run."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from numpy.typing import NDArray

from pgkeras.errors import ConfigError
from pgkeras.settings.config import Config

if TYPE_CHECKING:  # or the command line would wait for TensorFlow
    from pgkeras.bundle.bundle import Bundle
    from pgkeras.evaluation.evaluation import Evaluation
    from pgkeras.policy.policy import Policy
    from pgkeras.runs.directory import RunDirectory
    from pgkeras.runs.metrics import EpochMetrics

__all__ = ["Best", "Callback", "Run"]


class Best(NamedTuple):
    """The policy that did best so far, as :meth:`Run.keep_best` was told."""

    score: float
    epoch: int
    env_steps: int
    weights: list[NDArray[Any]]  # of :attr:`pgkeras.policy.policy.Policy.variables`


class Run(Protocol):
    """What a callback may read of a run, and do to it. It is a :class:`pgkeras.runs.training.Training`.

    Attributes:
        config: The settings.
        policy: The policy in training.
        directory: The run's files; None if it leaves none.
        best: The policy that did best in evaluations; None before the first.
    """

    config: Config
    policy: Policy
    directory: RunDirectory | None
    best: Best | None

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files, of several that train together."""
        ...

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        ...

    @property
    def env_steps(self) -> int:
        """Environment steps of their episodes."""
        ...

    @property
    def episodes(self) -> int:
        """Their episodes."""
        ...

    @property
    def seconds(self) -> float:
        """Seconds of training, of both phases, without setup and evaluations."""
        ...

    @property
    def mean_return_100(self) -> float:
        """Mean return of the last hundred training episodes, or of all so far; NaN before the first."""
        ...

    @property
    def finished(self) -> bool:
        """Whether there is a reason to stop."""
        ...

    @property
    def interrupted(self) -> bool:
        """Whether the run is to end soon, so that no evaluation is worth beginning."""
        ...

    def stop(self, reason: str) -> None:
        """Ends the run after this epoch; of several reasons, the first one counts."""
        ...

    def report(self, **values: float) -> None:
        """Adds values, by name, to what this epoch's line in ``metrics.jsonl`` says."""
        ...

    def evaluate(self, episodes: int, mode: str = "greedy") -> Evaluation:
        """Plays episodes by the policy as it is now; nothing is learnt from them."""
        ...

    def keep_best(self, score: float) -> bool:
        """Keeps the policy as it is now as the one to export, if none scored higher."""
        ...

    def export(self, root: Path | str, name: str | None = None) -> Bundle:
        """Publishes the best policy, or the last without evaluations."""
        ...


_OURS = {"on_train_begin": "on_start", "on_epoch_end": "on_epoch", "on_train_end": "on_end"}
_CALLED = {*_OURS, *_OURS.values()}


class Callback:
    """Watches a run. Every method does nothing until it is overridden.

    A callback may use all that :class:`Run` has. One that remembers something from epoch to epoch keeps it in
    :meth:`state`, so that a run that was stopped and resumed goes on as if it had not been.

    Keras' ``on_train_begin(logs)``, ``on_epoch_end(epoch, logs)`` and ``on_train_end(logs)`` are called, too, with the
    number of the epoch from 0 and its metrics by name.

    Raises:
        ConfigError: A class has a method ``on_...`` that is never called; raised where it is defined.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in vars(cls):
            if name.startswith("on_") and name not in _CALLED:
                near = difflib.get_close_matches(name, _CALLED, n=1, cutoff=0.0)[0]
                raise ConfigError(
                    f"{cls.__name__}.{name} would never be called; did you mean {near}? A callback has on_start, "
                    "on_epoch and on_end"
                )
            if (ours := _OURS.get(name)) in vars(cls):
                raise ConfigError(f"{cls.__name__} has {ours} and Keras' {name}, which mean the same: keep one of them")

    def on_start(self, training: Run) -> None:
        """Called before the first epoch, and when a resumed run goes on."""
        self.on_train_begin()

    def on_epoch(self, training: Run, metrics: EpochMetrics) -> None:
        """Called after every epoch."""
        self.on_epoch_end(metrics.epoch - 1, metrics.record())

    def on_end(self, training: Run) -> None:
        """Called when the run finishes, for whatever reason, while its environments are still there."""
        self.on_train_end()

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """As Keras has it."""

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """As Keras has it."""

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        """As Keras has it."""

    def state(self) -> dict[str, NDArray[Any]]:
        """The callback's state by name, for the checkpoint."""
        return {}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restores a :meth:`state`. Not called if the checkpoint has none of this callback."""
