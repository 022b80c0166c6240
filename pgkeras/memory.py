"""How much memory a process may still take."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

__all__ = ["available_bytes"]


def available_bytes(root: Path = Path("/")) -> float:
    """Bytes that can be had without swapping, by the machine's and the container's limits; infinite if unknown.

    The cache of files counts as free, since the kernel gives it up when memory runs short.

    Source: "MemAvailable" of https://docs.kernel.org/filesystems/proc.html, and "Memory Interface Files" of
    https://docs.kernel.org/admin-guide/cgroup-v2.html.

    Args:
        root: Of the file system.
    """
    found = [float("inf")]
    with contextlib.suppress(OSError):
        line = re.search(r"MemAvailable:\s+(\d+) kB", (root / "proc/meminfo").read_text())
        found += [1024 * float(line[1])] if line else []
    with contextlib.suppress(OSError, ValueError):  # there is none, or it is "max"
        group = root / "sys/fs/cgroup"
        most, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        cache = 0
        with contextlib.suppress(OSError):
            numbers = re.findall(r"^(?:in)?active_file (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
            cache = sum(map(int, numbers))
        found.append(float(most - used + cache))
    return min(found)
