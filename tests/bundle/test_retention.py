"""Old versions are deleted, but not those that a label names."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pgkeras.bundle.bundle import MANIFEST, open_bundle, versions
from pgkeras.bundle.labels import change_labels, read_labels
from pgkeras.bundle.retention import prune, superfluous
from pgkeras.cli.prune import command
from pgkeras.errors import BundleNotFoundError
from pgkeras.files import changing_alone

SHIPPED = Path(__file__).parents[2] / "saved_models" / "cartpole-v1" / "1"


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    for version in (1, 2, 3, 4, 10):
        shutil.copytree(SHIPPED, tmp_path / "cartpole-v1" / str(version))
    change_labels(tmp_path / "cartpole-v1", {"stable": 2})
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


def begun(future: Future[Any], seconds: float = 0.5) -> None:
    """Gives a thread time to get to where it waits, or into what it does."""
    wait([future], timeout=seconds)


def test_what_is_labelled_while_prune_waits_is_kept(policy: Path) -> None:
    with ThreadPoolExecutor() as pool:
        with changing_alone(policy):
            pruned = pool.submit(prune, policy, 1)
            begun(pruned)
            (policy / "labels.json").write_text(json.dumps({"stable": 2, "canary": 3}))
        assert pruned.result() == [1, 4]
    assert versions(policy) == [2, 3, 10]


def test_what_goes_while_a_label_waits_gets_none(policy: Path) -> None:
    with ThreadPoolExecutor() as pool:
        with changing_alone(policy):
            labelled = pool.submit(change_labels, policy, {"canary": 3})
            begun(labelled)
            (policy / "3").rename(policy / ".deleted-3")
        with pytest.raises(BundleNotFoundError, match="has no version 3; there is: 1, 2, 4, 10"):
            labelled.result()
    assert read_labels(policy) == {"stable": 2}


def test_a_label_is_on_a_version_that_is_there_whoever_comes_first(policy: Path) -> None:
    for _ in range(20):
        (policy / "labels.json").unlink()
        for version in (1, 2, 3, 4):
            shutil.copytree(SHIPPED, policy / str(version), dirs_exist_ok=True)
        with ThreadPoolExecutor() as pool:
            pruned = [pool.submit(prune, policy, 1) for _ in range(2)]
            labelled = pool.submit(change_labels, policy, {"stable": 4})
        error = labelled.exception()
        assert error is None or isinstance(error, BundleNotFoundError)
        assert versions(policy) == ([10] if error else [4, 10])
        assert read_labels(policy) == ({} if error else {"stable": 4})
        assert sorted(version for by_one in pruned for version in by_one.result()) == [1, 2, 3, 4][: 4 if error else 3]
        assert not list(policy.glob(".deleted-*"))
        change_labels(policy, {"stable": 10})


def test_what_a_prune_that_was_killed_has_left_is_deleted(policy: Path) -> None:
    for left in (".deleted-1", ".deleted-7"):
        shutil.copytree(SHIPPED, policy / left)
    assert prune(policy, 1) == [1, 3, 4]
    assert sorted(entry.name for entry in policy.iterdir()) == ["10", "2", "labels.json"]


def test_it_prunes_where_there_are_no_locks(policy: Path) -> None:
    # As on Windows, which has no fcntl; None stands for a module that cannot be imported.
    program = (
        "import sys; from pathlib import Path; from pgkeras.bundle.retention import prune; "
        "sys.platform = 'win32'; sys.modules['fcntl'] = None; print(prune(Path(sys.argv[1]), 1))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(policy)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("[1, 3, 4]\n", 0), done.stderr
    assert versions(policy) == [2, 10]


def test_a_version_that_goes_while_it_is_read_is_not_there(policy: Path, tmp_path: Path) -> None:
    manifest = json.loads((policy / "3" / MANIFEST).read_text())
    large = bytes(2**27)  # so that it takes a while, in which the directory goes
    (policy / "3" / "large").write_bytes(large)
    entry = {"bytes": len(large), "sha256": hashlib.sha256(large).hexdigest()}
    manifest["files"] = {"large": entry, **manifest["files"]}
    (policy / "3" / MANIFEST).write_text(json.dumps(manifest))
    error: BaseException | None = None
    for _ in range(20):  # on a busy machine it may go before it is read, or after it
        with ThreadPoolExecutor() as pool:
            opened = pool.submit(open_bundle, policy / "3")
            begun(opened, 0.03)
            (policy / "3").rename(tmp_path / "away")
            error = opened.exception()
        if "was deleted" in str(error):
            break
        (tmp_path / "away").rename(policy / "3")
    assert isinstance(error, BundleNotFoundError)
    assert "was deleted" in str(error)
