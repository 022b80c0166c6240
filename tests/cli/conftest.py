"""The command line in this process and in others, and a finished run with its bundle."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pgkeras.cli import _pgkeras

ROOT = Path(__file__).parents[2]

Invoke = Callable[..., Result]


def here(*arguments: object) -> Result:
    """The command line in this process; anything but a clean exit or error is raised."""
    result = CliRunner().invoke(_pgkeras, [str(argument) for argument in arguments], prog_name="pgkeras")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Runs a command in this process, in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    return here


def environment(**extra: str) -> dict[str, str]:
    """For another process, which is to find the same code and the tests' environments."""
    paths = [str(ROOT), str(ROOT / "serving"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **extra}


def python(*arguments: object, cwd: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    """Another Python process."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment(**extra), capture_output=True, text=True, check=False)


def blocking(module: str, *arguments: object) -> list[str]:
    """Arguments of a Python that runs the command line where ``module`` is not installed."""
    code = f"import sys; sys.modules[{module!r}] = None; from pgkeras.cli import main; main()"
    return ["-c", code, *map(str, arguments)]


@dataclass(frozen=True)
class Finished:
    """A run of a few epochs, and what it printed. Read only."""

    run: Path
    models: Path
    result: Result


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    root = tmp_path_factory.mktemp("finished")
    run, models = root / "run", root / "models"
    arguments: list[Any] = ["train", "CartPole-v1", "--steps", 400, "--seed", 3, "--stop-return", 450]
    arguments += ["--set", "hidden=8", "--set", "episodes=4", "--out", run, "--export-to", models]
    result = here(*arguments)
    assert result.exit_code == 0, result.output
    return Finished(run, models, result)
