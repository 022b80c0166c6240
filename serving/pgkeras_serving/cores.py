"""Cores: what there is to compute with, and who of the policies may have it."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Iterator
from pathlib import Path

from pgkeras_serving.metrics import Meter

__all__ = ["Cores", "available"]

# More than a request takes of the event loop, the transport and, on the same machine, its client. While these have more
# to do than an engine, and no core is idle, a second engine would only be in their way.
_LOOP_SECONDS = 1e-3


class Cores:
    """The cores that the engines of all policies share.

    Args:
        number: How many; None: as many as are :func:`available`.
    """

    def __init__(self, number: int | None = None) -> None:
        self.number = number or available()
        self._busy = 0
        self._meters: list[weakref.ref[Meter]] = []

    def share(self, meter: Meter) -> None:
        """Lets a policy, of which a meter tells how much it is asked, take part."""
        self._meters = [known for known in self._meters if known() is not None] + [weakref.ref(meter)]

    def take(self) -> None:
        """Notes that a lane has begun to compute."""
        self._busy += 1

    def give(self) -> None:
        """Notes that a lane has nothing to compute any more."""
        self._busy -= 1

    def free(self, meter: Meter, request_seconds: float) -> int:
        """How many more engines of a policy may compute beside those that do.

        One core is the event loop's. It is taken, too, for requests with which the loop has little to do, but not while
        another policy is asked: its requests would wait for a core for milliseconds.

        Args:
            meter: The policy's.
            request_seconds: What an engine takes for a request.
        """
        others = (known() for known in self._meters)
        is_alone = not any(other is not None and other is not meter and other.is_asked() for other in others)
        for_loop = 0 if is_alone and request_seconds >= _LOOP_SECONDS else 1
        return max(0, self.number - for_loop - self._busy)


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
