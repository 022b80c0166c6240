"""How many cores a process may use."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["available"]


def available(root: Path = Path("/")) -> int:
    """How many cores this process may use, by its affinity and by the quotas of its control groups.

    A container has all cores of its machine, but is stopped for the rest of a tenth of a second when it has used up its
    quota. Of the quota, what goes beyond whole cores is left to the event loop.

    Source: "CPU Interface Files" of https://docs.kernel.org/admin-guide/cgroup-v2.html, and
    https://docs.kernel.org/scheduler/sched-bwc.html for version 1.

    Args:
        root: Of the file system.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([cores, *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """The quotas in cores of the process's control groups and of those that they lie in."""
    groups = ""
    with contextlib.suppress(OSError):
        groups = (root / "proc/self/cgroup").read_text()
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / ("sys/fs/cgroup/cpu" if controllers else "sys/fs/cgroup")
        group = top / path.lstrip("/")
        for directory in (group, *group.parents):
            # There may be none, it may be "max", or the directory lies outside of what a container sees.
            with contextlib.suppress(OSError, ValueError):
                if directory.is_relative_to(top):
                    yield _quota_1(directory) if controllers else _quota_2(directory)


def _quota_1(directory: Path) -> float:
    quota, period = (int((directory / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
    return quota / period if quota > 0 else float("inf")


def _quota_2(directory: Path) -> float:
    quota, period = map(int, (directory / "cpu.max").read_text().split())
    return quota / period
