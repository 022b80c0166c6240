"""How the command ends: with a traceback where one is wanted, and without threads of others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def pgkeras(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/serving", **variables}
    command = [sys.executable, "-m", "pgkeras", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_a_traceback_is_shown_on_request(tmp_path: Path) -> None:
    plain = pgkeras("info", "nowhere", cwd=tmp_path)
    assert (plain.returncode, "Traceback" in plain.stderr) == (1, False)
    for shown in (
        pgkeras("--traceback", "info", "nowhere", cwd=tmp_path),
        pgkeras("info", "nowhere", cwd=tmp_path, PGKERAS_TRACEBACK="1"),
    ):
        assert shown.returncode == 1
        assert "Traceback (most recent call last)" in shown.stderr
        assert "bundle.py" in shown.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_output_that_cannot_be_written_is_an_error_of_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pgkeras", "presets"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/serving"}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=tmp_path, env=environment, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert done.stderr.decode() == "Error: the output cannot be written: No space left on device\n"


@pytest.mark.slow
def test_a_thread_that_an_environment_leaves_behind_is_named_and_ended(tmp_path: Path) -> None:
    arguments = [
        "--steps",
        "50",
        "--set",
        "hidden=4",
        "--set",
        "envs=1",
        "--set",
        "episodes=2",
        "--set",
        "loggers=none",
    ]
    done = pgkeras("train", "tests.environments.fragile:Leaves-v0", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Exported: " in done.stdout
    assert "the thread 'left-behind' has not ended" in done.stderr
