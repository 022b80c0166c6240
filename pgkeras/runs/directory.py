"""RunDirectory: what one training run leaves on disk.

::

    <run>/
      config.json           settings, package versions, device
      metrics.jsonl         one line per epoch
      metrics.csv           the same as a table, if asked for
      events.out.tfevents.* the same as TensorBoard scalars
      evaluations.jsonl     one line per evaluation
      checkpoints/          see pgkeras.runs.checkpoints
      summary.json          what came of the run
      learning_curve.png
      film.mp4              a film of the exported policy, for loggers that keep one
"""

from __future__ import annotations

import datetime
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pgkeras.errors import RunError
from pgkeras.files import LOCK, Lines, hold, write_whole
from pgkeras.runs import loggers as loggers_
from pgkeras.runs.checkpoints import Checkpoints
from pgkeras.runs.loggers.base import BUNDLE
from pgkeras.settings.recipe import slug

__all__ = [
    "RunDirectory",
    "check_directory",
    "default_directory",
    "read_config",
    "read_evaluations",
    "read_last_epoch",
    "read_metrics",
    "read_summary",
]

CONFIG = "config.json"
METRICS = "metrics.jsonl"
EVALUATIONS = "evaluations.jsonl"
SUMMARY = "summary.json"
CURVE = "learning_curve.png"
FILM = "film.mp4"
_MOST_OF_A_LINE = 65_536


def default_directory(env_id: str, seed: int | None) -> Path:
    """``runs/<environment>-seed<seed>-<time>``, in the current directory; the time has milliseconds.

    Runs of several seeds, for which ``seed`` is None, lie in ``runs/<environment>-seeds-<time>``.
    """
    now = datetime.datetime.now()
    moment = f"{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03d}"
    return Path("runs") / f"{slug(env_id)}-{'seeds' if seed is None else f'seed{seed}'}-{moment}"


def check_directory(path: Path, *, resume: bool = False) -> None:
    """Checks that a run can have a directory.

    Args:
        path: The directory.
        resume: Whether to go on with a run that is there. Otherwise there must be none.

    Raises:
        RunError: It holds a run and ``resume`` is false, or holds none and it is true.
    """
    holds_run = (path / CONFIG).exists()
    if holds_run and not resume:
        raise RunError(f"{path} holds a run already; give another --out, or go on with: pgkeras train --resume {path}")
    if resume and not holds_run:
        raise RunError(f"{path} holds no run: {CONFIG} is missing")


class RunDirectory:
    """The files of one run, open for writing.

    Args:
        path: The directory; made if need be.
        keep_checkpoints: How many of the last checkpoints to keep, beside the best.
        loggers: Where metrics go beside ``metrics.jsonl``; see :func:`pgkeras.runs.loggers.create_loggers`.
        resume: Whether to go on with a run that is there. Otherwise there must be none.

    Raises:
        RunError: The directory holds a run and ``resume`` is false, holds none and it is true, or is not writable.
    """

    def __init__(self, path: Path, keep_checkpoints: int, loggers: Sequence[str] = (), *, resume: bool = False) -> None:
        self.path = path
        self.checkpoints = Checkpoints(self.path, keep_checkpoints)
        check_directory(path, resume=resume)
        busy = (
            f"{path}: another process writes to this run, or another Training of this one: end it, or call its finish()"
        )
        where = {"advice": "make it writable, or go on with a copy of it"} if resume else {}
        self._lock = hold(path, "run directory", busy, **where)
        self._metrics = Lines(self.path / METRICS)
        self._evaluations = Lines(self.path / EVALUATIONS)
        try:
            self._loggers = loggers_.create_loggers(loggers, self.path)
        except BaseException:
            self._let_go()
            raise

    def config(self) -> dict[str, Any] | None:
        """The settings that are written here, or None before there are any."""
        return read_config(self.path)["config"] if (self.path / CONFIG).exists() else None

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Writes the settings and what they run on."""
        write_whole(self.path / CONFIG, _json(config))

    def begin(self, config: Mapping[str, Any], epoch: int) -> None:
        """Tells the loggers how a run goes on, before its first epoch and when it is resumed.

        Args:
            config: What ``config.json`` says, or will say.
            epoch: The epoch from which it goes on.

        Raises:
            RunError: A tracker refuses the run.
        """
        last = read_last_epoch(self.path)
        anew = config["config"] != self.config() and last is not None and last["epoch"] > epoch
        for logger in self._loggers:
            logger.begin(config, anew=anew)

    def write_epoch(self, metrics: Mapping[str, float]) -> None:
        """Appends one epoch's metrics, by name; ``epoch`` and ``env_steps`` say when it was."""
        finite = _finite(metrics)
        self._metrics.append(json.dumps(finite))
        for logger in self._loggers:
            logger.write(finite)

    def amend_epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """Adds values to the metrics of an epoch, the last that is written here, before this process writes any."""
        last = read_last_epoch(self.path)
        if last is None or last["epoch"] != epoch:
            return  # they could not be written
        record = {**last, **_finite(values)}
        *earlier, _ = (self.path / METRICS).read_text(encoding="utf-8").splitlines(keepends=True)
        write_whole(self.path / METRICS, "".join([*earlier, f"{json.dumps(record)}\n"]))
        for logger in self._loggers:
            logger.forget_after(epoch - 1, int(last["env_steps"]) - 1)
            logger.write(record)

    def write_evaluation(self, evaluation: Mapping[str, Any]) -> None:
        """Appends one evaluation; ``epoch`` says when it was."""
        self._evaluations.append(json.dumps(evaluation))

    def forget_evaluations(self, epoch: int) -> None:
        """Drops the evaluations of an epoch and of later ones."""
        _forget_after(self.path / EVALUATIONS, epoch - 1)

    def forget_after(self, epoch: int, env_steps: int, *, best: bool = False) -> None:
        """Drops what was written after an epoch, which a run that goes on from it plays again.

        Args:
            epoch: The epoch.
            env_steps: The steps that were done with it.
            best: Whether to drop the best policy, too.
        """
        for file in (self.path / METRICS, self.path / EVALUATIONS):
            _forget_after(file, epoch)
        for logger in self._loggers:
            logger.forget_after(epoch, env_steps)
        self.checkpoints.forget_after(epoch, best=best)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes what came of the run."""
        write_whole(self.path / SUMMARY, _json(summary))

    @property
    def wants_films(self) -> bool:
        """Whether a logger would keep a film of the exported policy."""
        return any(logger.wants_films for logger in self._loggers)

    def keep(self, what: str, path: Path) -> None:
        """Hands a file of the run to the loggers; see :meth:`pgkeras.runs.loggers.base.Logger.keep`."""
        for logger in self._loggers:
            logger.keep(what, path)

    def note_bundle(self, bundle: Path) -> None:
        """Records in the summary, once there is one, where the policy was exported to; loggers keep the bundle."""
        self.keep(BUNDLE, bundle)
        if (self.path / SUMMARY).exists():
            self.write_summary({**read_summary(self.path), "bundle": str(bundle)})

    def close(self) -> None:
        """Flushes everything."""
        self._metrics.close()
        self._evaluations.close()
        for logger in self._loggers:
            logger.close()
        self._let_go()

    def _let_go(self) -> None:
        (self.path / LOCK).unlink(missing_ok=True)
        self._lock.close()


def read_config(run: Path) -> dict[str, Any]:
    """A run's settings and what it ran on.

    Raises:
        RunError: There is no run at that path, or its file is malformed.
    """
    data = _read_object(run / CONFIG, f"{run} is not a run directory")
    if not isinstance(data.get("config"), dict):
        raise RunError(f"{run / CONFIG}: malformed: it holds no settings under 'config'")
    return data


def read_summary(run: Path) -> dict[str, Any]:
    """Reads the summary of a run.

    Raises:
        RunError: There is none yet, or it is malformed.
    """
    return _read_object(run / SUMMARY, f"the run at {run} is not finished")


def read_metrics(run: Path) -> list[dict[str, float]]:
    """A run's metrics, one dictionary per epoch.

    Raises:
        RunError: There is no run at that path, or a line is malformed.
    """
    if not (run / METRICS).exists():
        read_config(run)  # or there is no run
        return []  # none of its epochs is over
    return _read_lines(run / METRICS)


def read_last_epoch(run: Path) -> dict[str, float] | None:
    """The metrics of a run's last epoch so far; None before the first. For those who look again and again."""
    if not (run / METRICS).exists():
        return None
    with (run / METRICS).open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _MOST_OF_A_LINE))
        *complete, _ = file.read().split(b"\n")  # what comes last may be half a line
    return json.loads(complete[-1]) if complete else None


def read_evaluations(run: Path) -> list[dict[str, Any]]:
    """A run's evaluations; none if it was never evaluated.

    Raises:
        RunError: A line is malformed.
    """
    return _read_lines(run / EVALUATIONS) if (run / EVALUATIONS).exists() else []


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """With None for numbers that are not finite, which JSON has not."""
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in values.items()}


def _forget_after(file: Path, epoch: int) -> None:
    """Drops the lines of later epochs, if the file is there."""
    if file.exists():
        # What was written last may be half a line, if a disk was full or a machine went down.
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["epoch"] <= epoch]
        write_whole(file, "".join(kept))


def _read_lines(file: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise RunError(f"{file}: malformed: {error}") from error


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=2) + "\n"


def _read_object(file: Path, otherwise: str) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{otherwise}: {file.name} is missing") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{file}: unreadable: {error}") from error
    if not isinstance(data, dict):
        raise RunError(f"{file}: expected a JSON object")
    return data
