"""Resuming: what a run reads from a checkpoint to go on from there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pgkeras.errors import RunError
from pgkeras.reinforce.learner import Learner
from pgkeras.runs.callbacks import Best, Callbacks
from pgkeras.runs.checkpoints import BEST, LAST
from pgkeras.runs.counters import Counters
from pgkeras.runs.directory import RunDirectory
from pgkeras.settings.config import Config

__all__ = ["read_best", "restore"]


def restore(
    arrays: Mapping[str, NDArray[Any]], learner: Learner, counters: Counters, callbacks: Callbacks, path: Path | None
) -> None:
    """Restores the parts of a run whose state a checkpoint has.

    Args:
        arrays: The checkpoint.
        learner: Restored with its policy.
        counters: Restored.
        callbacks: Restored, if the checkpoint has a state of them.
        path: The run's directory, for messages; None for a run that has none.

    Raises:
        RunError: The checkpoint is of other settings, or an array is missing.
    """
    try:
        learner.restore(arrays)
        counters.restore(arrays)
        callbacks.restore(arrays)
    except (KeyError, ValueError) as error:
        where = "" if path is None else f"{path}: "
        what = f"it has no array {error}" if isinstance(error, KeyError) else str(error)
        raise RunError(f"{where}the checkpoint does not fit the run's settings: {what}") from error


def read_best(directory: RunDirectory, checkpoint: str, config: Config, learner: Learner, epoch: int) -> Best | None:
    """The policy that did best up to a checkpoint; None if there is none.

    The file has its own score: after a kill it may be newer than the last checkpoint, from epochs to be played again.
    Newer than an older one, or than the last one where settings have changed, it is of epochs that are given up.

    Args:
        directory: The run's files.
        checkpoint: Which one the run goes on from: "last", "best", or a number.
        config: The settings with which it goes on.
        learner: Knows which arrays are the policy's weights.
        epoch: Epochs that were done at the checkpoint.

    Raises:
        RunError: The file cannot be read.
    """
    if not directory.checkpoints.has_best:
        return None
    arrays = directory.checkpoints.read(BEST)
    try:
        (best_epoch, env_steps, _), score = map(int, arrays["counters"]), float(arrays["score"])
        weights = learner.policy_weights(arrays)
    except KeyError as error:
        file = directory.checkpoints.file(BEST)
        raise RunError(f"cannot read {file}: it has no array {error}; delete it to do without it") from error
    is_replayed = checkpoint == LAST and directory.config() == config.to_json()
    if best_epoch > epoch and not is_replayed:
        return None
    return Best(score, best_epoch, env_steps, weights)
