"""Loggers: where an epoch's metrics go beside ``metrics.jsonl``."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from pgkeras.files import Lines, write_whole

__all__ = ["CSV", "CsvLogger", "Logger", "TensorBoardLogger", "loggers"]

CSV = "metrics.csv"

Record = Mapping[str, float | None]


class Logger(Protocol):
    """Logs one record per epoch: numbers by name, None for one that is not finite."""

    def write(self, record: Record) -> None:
        """Appends a record."""

    def forget_after(self, epoch: int, env_steps: int) -> None:
        """Drops the records after an epoch, which ended after that many environment steps."""

    def close(self) -> None:
        """Flushes everything."""


class CsvLogger:
    """``metrics.csv``: a column a metric, an empty cell where there is no number.

    Args:
        run: The run's directory.
    """

    def __init__(self, run: Path) -> None:
        self._lines = Lines(run / CSV)
        self._columns: list[str] = []
        if self._lines.path.exists():
            rows = self._read()
            self._columns = rows[0] if rows else []

    def write(self, record: Record) -> None:
        """See :meth:`Logger.write`."""
        if new := [name for name in record if name not in self._columns]:
            # Only now is it known that there are such: at the first epoch, or the first that was evaluated.
            rows = self._read()[1:]
            self._columns += new
            self._rewrite([row + [""] * len(new) for row in rows])
        self._lines.append(_row("" if (v := record.get(name)) is None else v for name in self._columns))

    def forget_after(self, epoch: int, env_steps: int) -> None:
        """See :meth:`Logger.forget_after`."""
        if self._columns:
            at = self._columns.index("epoch")
            whole = (row for row in self._read()[1:] if len(row) == len(self._columns))
            self._rewrite([row for row in whole if int(row[at]) <= epoch])

    def close(self) -> None:
        """See :meth:`Logger.close`."""
        self._lines.close()

    def _read(self) -> list[list[str]]:
        path = self._lines.path
        return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8")))) if path.exists() else []

    def _rewrite(self, rows: list[list[str]]) -> None:
        self._lines.close()
        write_whole(self._lines.path, "".join(f"{_row(row)}\n" for row in [self._columns, *rows]))


class TensorBoardLogger:
    """Scalars over environment steps, in an event file.

    Args:
        run: The run's directory.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._writer: Any = None

    def write(self, record: Record) -> None:
        """See :meth:`Logger.write`."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=v) for tag, v in record.items() if v is not None]
        self._add(int(record["env_steps"] or 0), summary=Summary(value=values))

    def forget_after(self, epoch: int, env_steps: int) -> None:
        """See :meth:`Logger.forget_after`: TensorBoard drops what came before a start, from its step on."""
        from tensorboard.compat.proto.event_pb2 import SessionLog

        if list(self._run.glob("events.out.tfevents.*")):
            self._add(env_steps + 1, session_log=SessionLog(status=SessionLog.START))

    def close(self) -> None:
        """See :meth:`Logger.close`."""
        if self._writer is not None:
            self._writer.close()

    def _add(self, step: int, **what: Any) -> None:
        # TensorBoard's own writer: one event for all scalars, written by a thread of its own, at a hundredth of the
        # cost of a tf.summary.scalar call for each.
        from tensorboard.compat.proto.event_pb2 import Event

        if self._writer is None:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter

            self._writer = EventFileWriter(str(self._run))
        self._writer.add_event(Event(wall_time=time.time(), step=step, **what))


def loggers(names: str, run: Path) -> list[Logger]:
    """The loggers that a setting names.

    Args:
        names: "none", "csv", "tensorboard" or "both".
        run: The run's directory.
    """
    made: list[Logger] = []
    if names in ("csv", "both"):
        made.append(CsvLogger(run))
    if names in ("tensorboard", "both"):
        made.append(TensorBoardLogger(run))
    return made


def _row(cells: Any) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()
