"""RunDirectory: what one training run leaves on disk.

::

    <run>/
      config.json           settings, package versions, device
      metrics.jsonl         one line per epoch
      events.out.tfevents.* the same as TensorBoard scalars
      checkpoint.npz        weights, optimizer state and counters, to resume from
      summary.json          what came of the run
      learning_curve.png
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.errors import RunError

__all__ = ["RunDirectory", "default_directory", "read_config", "read_metrics", "read_summary", "write_whole"]

CONFIG = "config.json"
METRICS = "metrics.jsonl"
CHECKPOINT = "checkpoint.npz"
SUMMARY = "summary.json"
CURVE = "learning_curve.png"


def default_directory(env_id: str, seed: int) -> Path:
    """``runs/<environment>-seed<seed>-<time>``, in the current directory."""
    name = env_id.replace(":", "-").replace("/", "-").lower()
    return Path("runs") / f"{name}-seed{seed}-{time.strftime('%Y%m%d-%H%M%S')}"


class RunDirectory:
    """The files of one run, open for writing.

    Args:
        path: The directory; made if need be.
        resume: Whether to go on with a run that is there. Otherwise there must be none.

    Raises:
        RunError: The directory holds a run and ``resume`` is false, holds none and it is true, or is not writable.
    """

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self.path = path
        holds_run = (path / CONFIG).exists()
        if holds_run and not resume:
            raise RunError(
                f"{path} holds a run already; give another --out, or go on with: pgkeras train --resume {path}"
            )
        if resume and not holds_run:
            raise RunError(f"{path} holds no run: {CONFIG} is missing")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot make run directory {path}: {error}; give another --out") from error
        self._metrics: IO[str] | None = None
        self._events: Any = None

    def config(self) -> dict[str, Any] | None:
        """The settings that are written here, or None before there are any."""
        return read_config(self.path)["config"] if (self.path / CONFIG).exists() else None

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Writes the settings and what they run on."""
        write_whole(self.path / CONFIG, _json(config))

    def write_epoch(self, metrics: Mapping[str, float]) -> None:
        """Appends one epoch's metrics, by name; ``env_steps`` is TensorBoard's step."""
        finite = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in metrics.items()}
        try:
            if self._metrics is None:
                self._metrics = (self.path / METRICS).open("a", encoding="utf-8")
            self._metrics.write(json.dumps(finite) + "\n")
            self._metrics.flush()
        except OSError as error:
            raise RunError(f"cannot write {self.path / METRICS}: {error}") from error
        self._write_event({name: v for name, v in finite.items() if v is not None})

    def keep_epochs(self, epochs: int) -> None:
        """Drops the metrics after the first ``epochs`` epochs, which a resumed run plays again."""
        file = self.path / METRICS
        if file.exists():
            write_whole(file, "".join(file.read_text(encoding="utf-8").splitlines(keepends=True)[:epochs]))

    def write_checkpoint(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Replaces the checkpoint."""
        with _replacing(self.path / CHECKPOINT) as scratch:
            np.savez(scratch, allow_pickle=False, **arrays)

    def read_checkpoint(self) -> dict[str, NDArray[Any]]:
        """The last checkpoint.

        Raises:
            RunError: There is none, or it cannot be read.
        """
        try:
            with np.load(self.path / CHECKPOINT, allow_pickle=False) as data:
                return dict(data)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise RunError(f"cannot read {self.path / CHECKPOINT}: {error}") from error

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes what came of the run."""
        write_whole(self.path / SUMMARY, _json(summary))

    def note_bundle(self, bundle: Path) -> None:
        """Notes in the summary, once there is one, where the policy was exported to."""
        if (self.path / SUMMARY).exists():
            self.write_summary({**read_summary(self.path), "bundle": str(bundle)})

    def close(self) -> None:
        """Flushes everything."""
        if self._metrics is not None:
            self._metrics.close()
        if self._events is not None:
            self._events.close()

    def _write_event(self, metrics: Mapping[str, float]) -> None:
        # TensorBoard's own writer: one event for all scalars, written by a thread of its own, at a hundredth of the
        # cost of a tf.summary.scalar call for each.
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        if self._events is None:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter

            self._events = EventFileWriter(str(self.path))
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in metrics.items()]
        event = Event(wall_time=time.time(), step=int(metrics["env_steps"]), summary=Summary(value=values))
        self._events.add_event(event)


def read_config(run: Path) -> dict[str, Any]:
    """A run's settings and what it ran on.

    Raises:
        RunError: There is no run at that path, or its file is malformed.
    """
    data = _read_object(run / CONFIG, f"{run} is no run directory")
    if not isinstance(data.get("config"), dict):
        raise RunError(f"{run / CONFIG}: malformed: it holds no settings under 'config'")
    return data


def read_summary(run: Path) -> dict[str, Any]:
    """What came of a run.

    Raises:
        RunError: There is none yet, or it is malformed.
    """
    return _read_object(run / SUMMARY, f"the run at {run} is not finished")


def read_metrics(run: Path) -> list[dict[str, float]]:
    """A run's metrics, one dictionary per epoch.

    Raises:
        RunError: There are none, or a line is malformed.
    """
    file = run / METRICS
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise RunError(f"{run} is no run directory: {METRICS} is missing") from error
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise RunError(f"{file}: malformed: {error}") from error


def write_whole(path: Path, text: str) -> None:
    """Writes a file so that it appears whole or not at all.

    Raises:
        RunError: It cannot be written.
    """
    with _replacing(path) as scratch:
        scratch.write(text.encode())


class _replacing:  # noqa: N801 - used like a function
    """A scratch file that takes the place of ``path`` when the body succeeds."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Any:
        try:
            self._scratch = tempfile.NamedTemporaryFile(dir=self._path.parent, prefix=".", delete=False)
        except OSError as error:
            raise RunError(f"cannot write {self._path}: {error}") from error
        return self._scratch

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        scratch = Path(self._scratch.name)
        try:
            if kind is None:
                self._scratch.flush()
                os.fsync(self._scratch.fileno())
            self._scratch.close()
            if kind is None:
                scratch.chmod(0o644)
                scratch.replace(self._path)
        except OSError as failure:
            raise RunError(f"cannot write {self._path}: {failure}") from failure
        finally:
            scratch.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise RunError(f"cannot write {self._path}: {error}") from error


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
