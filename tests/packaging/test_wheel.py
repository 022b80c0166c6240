"""The package: built from tracked files, checked, and installed without the repository on every supported Python.

The tests are slow because each installs TensorFlow. ``make test-packaging`` runs them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from pgkeras import __version__

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PYTHONS = ("3.11", "3.12", "3.13")


def run(*command: object, cwd: Path = ROOT, expected: int = 0) -> str:
    """Runs a command without this environment's Python variables; returns its output."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    result = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environ, capture_output=True, text=True, check=False
    )
    assert result.returncode == expected, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


def interpreter_of(python: str) -> Path | None:
    """An interpreter of a version, from pyenv or found by uv; None if there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    if there := sorted(pyenv.glob(f"{python}.*/bin/python")):
        return there[-1]
    command = [BIN / "uv", "python", "find", "--no-project", "--no-python-downloads", python]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return Path(found.stdout.strip()) if found.returncode == 0 else None


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist and the wheel built from it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    archive = source / "tracked.tar"
    run("git", "archive", "--output", archive, "HEAD")
    with tarfile.open(archive) as tar:
        tar.extractall(source / "tree", filter="data")
    run(BIN / "uv", "build", "--out-dir", out, source / "tree")
    return out


def wheel_of(dist: Path) -> Path:
    (wheel,) = dist.glob("*.whl")
    return wheel


def test_the_files_are_well_formed_and_complete(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    run(BIN / "twine", "check", "--strict", sdist, wheel_of(dist))
    # W009: the wheel has two packages, because the server is one. W002: shared presets are identical files.
    run(BIN / "check-wheel-contents", "--ignore", "W002,W009", wheel_of(dist))
    with zipfile.ZipFile(wheel_of(dist)) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names} == {
        "pgkeras",
        "pgkeras_serving",
        f"pgkeras-{__version__}.dist-info",
    }
    assert "pgkeras/settings/presets/cartpole-v1.toml" in names
    assert "pgkeras/py.typed" in names
    with tarfile.open(sdist) as tar:
        inside = {name.partition("/")[2] for name in tar.getnames()}
    assert {"protos/pgkeras/v1/service.proto", "README.md", "CHANGELOG.md", "LICENSE"} <= inside


@pytest.mark.parametrize("python", PYTHONS)
def test_quickstart_from_the_wheel(python: str, dist: Path, tmp_path: Path) -> None:
    pgkeras = installed(python, dist, tmp_path)
    assert run(pgkeras, "--version", cwd=tmp_path) == f"pgkeras, version {__version__}\n"
    assert "Learned to balance" in run(pgkeras, "quickstart", cwd=tmp_path)


def test_quickstart_with_the_oldest_allowed_versions(dist: Path, tmp_path: Path) -> None:
    pgkeras = installed("3.11", dist, tmp_path, "--resolution", "lowest-direct")
    assert "Learned to balance" in run(pgkeras, "quickstart", cwd=tmp_path)


def test_a_bill_of_materials_lists_the_installed_packages(dist: Path, tmp_path: Path) -> None:
    installed("3.11", dist, tmp_path, extras="serve")
    bill = tmp_path / "bill.json"
    python = tmp_path / "venv" / "bin" / "python"
    run(BIN / "cyclonedx-py", "environment", "--output-file", bill, python)
    components = {part["name"]: part["version"] for part in json.loads(bill.read_text())["components"]}
    assert components["pgkeras"] == __version__
    assert {"grpcio", "numpy", "protobuf", "h11"} <= components.keys()
    assert "tensorflow" not in components


def installed(python: str, dist: Path, where: Path, *options: str, extras: str = "serve,train") -> Path:
    """Installs the wheel and its dependencies into a new environment; returns its ``pgkeras`` command."""
    uv, venv = BIN / "uv", where / "venv"
    base = interpreter_of(python)
    if base is None:
        pytest.skip(f"there is no Python {python} on this machine")
    run(uv, "venv", "--python", base, venv, cwd=where)
    interpreter = venv / "bin" / "python"
    wanted = f"{wheel_of(dist)}[{extras}]"
    run(uv, "pip", "install", "--python", interpreter, *options, wanted, cwd=where)
    return venv / "bin" / "pgkeras"
