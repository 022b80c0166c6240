"""Amount of memory that a process can still allocate."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

__all__ = ["available_bytes"]


def available_bytes(root: Path = Path("/")) -> float:
    """Returns the bytes that can be allocated without swapping, within the limits of the machine and the container.

    The page cache counts as free, because the kernel reclaims it when memory runs short. Returns infinity if the limits
    are unknown.

    Source: "MemAvailable" of https://docs.kernel.org/filesystems/proc.html, and "Memory Interface Files" of
    https://docs.kernel.org/admin-guide/cgroup-v2.html.

    Args:
        root: Root of the file system.
    """
    found = [float("inf")]
    with contextlib.suppress(OSError):
        line = re.search(r"MemAvailable:\s+(\d+) kB", (root / "proc/meminfo").read_text())
        found += [1024 * float(line[1])] if line else []
    with contextlib.suppress(OSError, ValueError):  # the file is missing, or contains "max"
        group = root / "sys/fs/cgroup"
        most, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        cache = 0
        with contextlib.suppress(OSError):
            numbers = re.findall(r"^(?:in)?active_file (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
            cache = sum(map(int, numbers))
        found.append(float(most - used + cache))
    return min(found)
