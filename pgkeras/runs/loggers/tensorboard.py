"""Metrics for TensorBoard."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pgkeras.runs.loggers.base import Logger, Record

__all__ = ["TensorBoardLogger"]


class TensorBoardLogger(Logger):
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
