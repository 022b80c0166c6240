"""The notebooks: each is executed in a new kernel, and its outputs are checked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def outputs_of(name: str, where: Path) -> list[Any]:
    """Executes a notebook; returns the outputs of its cells."""
    import nbformat
    from nbclient import NotebookClient

    path = os.pathsep.join([str(ROOT), str(ROOT / "serving")])
    notebook = nbformat.read(ROOT / "docs" / "notebooks" / f"{name}.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(where)}})
    client.execute(env={**os.environ, "PYTHONPATH": path})  # raises if a cell does
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def text(outputs: list[Any]) -> str:
    return "".join(output.get("text", "") for output in outputs)


def shown(outputs: list[Any], kind: str) -> list[str]:
    return [output["data"][kind] for output in outputs if kind in output.get("data", {})]


def test_there_are_three_notebooks_without_outputs() -> None:
    import nbformat

    assert {file.stem for file in NOTEBOOKS} == {"first-policy", "own-environment", "client"}
    for file in NOTEBOOKS:
        assert not any(cell.get("outputs") for cell in nbformat.read(file, as_version=4).cells)


@pytest.mark.slow
def test_first_policy(tmp_path: Path) -> None:
    first = outputs_of("first-policy", tmp_path)
    assert "greedy: 500.0 of 500" in text(first) or "greedy: 49" in text(first)
    assert any("<progress" in html and "CartPole-v1" in html for html in shown(first, "text/html"))
    assert len(shown(first, "image/png")) == 1  # the learning curve


@pytest.mark.slow
def test_own_environment(tmp_path: Path) -> None:
    outputs = outputs_of("own-environment", tmp_path)
    printed = text(outputs)
    means = [float(line.rsplit(maxsplit=1)[1]) for line in printed.splitlines() if ": 0." in line]
    assert len(means) == 2
    assert min(means) > 0.55
    assert len(shown(outputs, "image/png")) == 1  # the learning curve of a run without a directory
    assert printed.splitlines()[-2].rstrip("%").split()[-1] > "90"


@pytest.mark.slow
def test_client(tmp_path: Path) -> None:
    outputs = outputs_of("client", tmp_path)
    tables = shown(outputs, "text/html")
    assert any('<meter min="0" max="1"' in html and "cartpole-v1 version 1" in html for html in tables)
    assert "return: 500" in text(outputs)
    assert "the server ended with 0" in text(outputs)
