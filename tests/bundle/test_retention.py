"""Old versions are deleted, but not those that a label names."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from pgkeras.bundle.bundle import open_bundle, versions
from pgkeras.bundle.labels import set_labels
from pgkeras.bundle.retention import prune, superfluous
from pgkeras.cli.prune import command
from pgkeras.errors import BundleNotFoundError

SHIPPED = Path(__file__).parents[2] / "saved_models" / "cartpole-v1" / "1"


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    for version in (1, 2, 3, 4, 10):
        shutil.copytree(SHIPPED, tmp_path / "cartpole-v1" / str(version))
    set_labels(tmp_path / "cartpole-v1", {"stable": 2})
    return tmp_path / "cartpole-v1"


@pytest.mark.parametrize(("keep", "left"), [(1, [2, 10]), (2, [2, 4, 10]), (4, [2, 3, 4, 10]), (9, [1, 2, 3, 4, 10])])
def test_the_newest_and_the_labelled_are_kept(policy: Path, keep: int, left: list[int]) -> None:
    everything = versions(policy)
    assert superfluous(policy, keep) == [version for version in everything if version not in left]
    assert prune(policy, keep) == [version for version in everything if version not in left]
    assert versions(policy) == left
    assert sorted(entry.name for entry in policy.iterdir()) == sorted([*map(str, left), "labels.json"])
    assert all(open_bundle(policy / str(version)).spec.state_size == 0 for version in left)


def test_the_command_says_what_it_deletes(policy: Path) -> None:
    dry = CliRunner().invoke(command, [str(policy.parent), "--keep", "1", "--dry-run"])
    assert dry.output.splitlines() == [f"Would delete: {policy / str(version)}" for version in (1, 3, 4)]
    assert versions(policy) == [1, 2, 3, 4, 10]
    wet = CliRunner().invoke(command, [str(policy.parent), "--keep", "1", "--policy", "cartpole-v1"])
    assert wet.output.splitlines() == [f"Deleted: {policy / str(version)}" for version in (1, 3, 4)]
    assert versions(policy) == [2, 10]
    wrong = CliRunner().invoke(command, [str(policy.parent), "--keep", "1", "--policy", "nobody"])
    assert isinstance(wrong.exception, BundleNotFoundError)
