"""The memory that a process may still allocate."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgkeras.memory import available_bytes


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MACHINE = {"proc/meminfo": "MemTotal:  9000 kB\nMemAvailable:    2000 kB\n"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, float("inf")),
        (MACHINE, 2000 * 1024),
        ({**MACHINE, "sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/memory.current": "5\n"}, 2000 * 1024),
        ({**MACHINE, "sys/fs/cgroup/memory.max": "1000\n", "sys/fs/cgroup/memory.current": "400\n"}, 600),
        (
            {
                **MACHINE,
                "sys/fs/cgroup/memory.max": "1000\n",
                "sys/fs/cgroup/memory.current": "950\n",
                "sys/fs/cgroup/memory.stat": "anon 100\ninactive_file 500\nactive_file 300\nactive_anon 90\n",
            },
            850,
        ),
        ({"proc/meminfo": "MemTotal: 9 kB\n"}, float("inf")),
    ],
)
def test_the_lower_of_the_machines_and_the_cgroups_limit_applies(
    tmp_path: Path, files: dict[str, str], expected: float
) -> None:
    assert available_bytes(write(tmp_path, files)) == expected


def test_this_machine_has_memory_available() -> None:
    assert 2**20 < available_bytes() <= float("inf")
