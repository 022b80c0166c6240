"""Output of the benchmarks: the machine, a table, and optionally JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["END", "machine", "mean_and_range", "spread", "table", "write_below", "write_json"]

END = "<!-- made by hand from here on -->"
"""Marks the end of the generated part of a document."""


def machine() -> dict[str, Any]:
    """Returns a short description of the machine, without anything that identifies it."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Formats the median, and the lowest to the highest value."""
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def mean_and_range(values: Sequence[float], digits: int = 0) -> str:
    """Formats the mean, and the lowest to the highest if there are several values."""
    mean = f"{statistics.fmean(values):,.{digits}f}"
    return f"{mean} ({min(values):,.{digits}f} to {max(values):,.{digits}f})" if len(values) > 1 else mean


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Formats rows as a Markdown table, with the first row's keys as its header."""
    rows = list(rows)
    head = list(rows[0])
    lines = [[str(row.get(key, "")) for key in head] for row in rows]
    widths = [max(len(key), *(len(line[i]) for line in lines)) for i, key in enumerate(head)]
    full = [head, ["-" * width for width in widths], *lines]
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in full)


def write_below(document: Path, marker: str, text: str) -> None:
    """Replaces the text below a marker in a document, up to :data:`END` if the document has it."""
    head, _, below = document.read_text().partition(marker)
    _, end, tail = below.partition(END)
    rest = f"\n{end}{tail}" if end else ""
    document.write_text(f"{head}{marker}\n\n{text}\n{rest}")


def write_json(path: Path | None, command: str, results: Any) -> None:
    """Writes the results with the machine and the command, if a path is given."""
    if path is not None:
        path.write_text(json.dumps({"command": command, "machine": machine(), "results": results}, indent=2) + "\n")
