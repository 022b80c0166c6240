"""Number of cores that a process may use."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["available"]


def available(root: Path = Path("/")) -> int:
    """Returns the number of cores that this process may use, from its affinity and the quotas of its control groups.

    A container can run on all cores of its machine, but it is paused until the next period, usually 100 ms, when its
    quota is used up. A quota is rounded down to whole cores; the fraction is left to the event loop.

    Source: "CPU Interface Files" of https://docs.kernel.org/admin-guide/cgroup-v2.html, and
    https://docs.kernel.org/scheduler/sched-bwc.html for version 1.

    Args:
        root: Root of the file system.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([cores, *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """Yields the quotas, in cores, of the process's control groups and their parents."""
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
            # The file may be missing or contain "max", or the container may not see the directory.
            with contextlib.suppress(OSError, ValueError):
                if directory.is_relative_to(top):
                    yield _quota_1(directory) if controllers else _quota_2(directory)


def _quota_1(directory: Path) -> float:
    quota, period = (int((directory / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
    return quota / period if quota > 0 else float("inf")


def _quota_2(directory: Path) -> float:
    quota, period = map(int, (directory / "cpu.max").read_text().split())
    return quota / period
