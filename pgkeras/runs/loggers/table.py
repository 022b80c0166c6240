"""Metrics as a table."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from pgkeras.files import Lines, write_whole
from pgkeras.runs.loggers.base import Logger, Record

__all__ = ["CSV", "CsvLogger"]

CSV = "metrics.csv"


class CsvLogger(Logger):
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


def _row(cells: Any) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()
