"""The shipped policy: its manifest, and its returns behind a server."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pgkeras.bundle import bundle
from pgkeras.settings import config
from tests.cli.conftest import ROOT, python
from tests.serving.conftest import running

SHIPPED = ROOT / "saved_models" / "cartpole-v1" / "1"


def test_its_files_and_provenance_are_complete() -> None:
    found = bundle.open_bundle(SHIPPED)  # checks every digest
    assert (found.name, found.version) == ("cartpole-v1", 1)
    assert found.flatbuffer is not None
    assert sum(found.files.values()) < 2**20
    provenance = found.provenance
    assert provenance["results"]["solved"] is True
    assert set(provenance["packages"]) >= {"pgkeras", "tensorflow", "keras", "gymnasium"}
    # Its settings are still those of `pgkeras train CartPole-v1`.
    assert config.Config.from_json(provenance["config"]) == config.resolve("CartPole-v1")


@pytest.mark.parametrize("mode", ["greedy", "sample"])
def test_it_plays_well_behind_a_server(mode: str, tmp_path: Path) -> None:
    shutil.copytree(SHIPPED, tmp_path / "cartpole-v1" / "1")
    with running(tmp_path, tmp_path) as server:
        result = python(
            "-m", "pgkeras", "evaluate", server.target, "--episodes", 20, "--mode", mode, "--json", cwd=tmp_path
        )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["episodes"] == 20
    assert report["mean"] >= 475
    assert report["tensorflow_loaded"] is False
