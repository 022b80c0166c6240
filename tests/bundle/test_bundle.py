"""Bundles: whole or not at all on disk, and refused when anything about them is off."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgkeras.bundle import bundle
from pgkeras.bundle.labels import change_labels
from pgkeras.bundle.retention import prune
from pgkeras.errors import (
    BundleError,
    BundleNotFoundError,
    ConfigError,
    CorruptBundleError,
    ExportError,
    NewerBundleError,
    UnauthenticatedError,
)
from pgkeras.spaces import Box, Discrete
from pgkeras.spaces.spec import DistributionKind, PolicySpec
from tests.serving.conftest import ROOT

SPEC = PolicySpec(
    Box(np.full(4, -1.0), np.full(4, 1.0), np.dtype(np.float32)), Discrete(2), DistributionKind.CATEGORICAL
)


def publish(root, name="p", size=100, spec=SPEC):
    with bundle.draft(root, name, spec) as work:
        (work.path / "saved_model.pb").write_bytes(os.urandom(size))
        (work.path / bundle.FLATBUFFER).write_bytes(b"flat")
        work.provenance["seed"] = 7
    return work.bundle


def edit(path, change):
    file = path / bundle.MANIFEST
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))


def visible(root):
    return {name: bundle.versions(root / name) for name in bundle.policy_names(root)}


def test_what_is_published_reads_back(tmp_path):
    published = publish(tmp_path)
    assert bundle.open_bundle(tmp_path / "p" / "1") == published
    assert (published.name, published.version, published.spec) == ("p", 1, SPEC)
    assert published.provenance == {"seed": 7}
    assert published.flatbuffer.read_bytes() == b"flat"
    assert publish(tmp_path).version == 2
    assert list((tmp_path / "p").glob(".*")) == []


def test_digests_are_of_the_files(tmp_path):
    path = publish(tmp_path).path
    manifest = json.loads((path / bundle.MANIFEST).read_text())
    for name, entry in manifest["files"].items():
        assert entry["sha256"] == hashlib.sha256((path / name).read_bytes()).hexdigest()
        assert entry["bytes"] == (path / name).stat().st_size
    assert set(manifest["files"]) == {"saved_model.pb", bundle.FLATBUFFER.as_posix()}


def test_concurrent_exports_get_versions_of_their_own(tmp_path):
    together = threading.Barrier(8)

    def export(_):
        with bundle.draft(tmp_path, "p", SPEC) as work:
            (work.path / "saved_model.pb").write_bytes(os.urandom(50))
            together.wait(20)
        return work.bundle

    with ThreadPoolExecutor(8) as pool:
        published = list(pool.map(export, range(8)))
    assert sorted(found.version for found in published) == list(range(1, 9))
    assert visible(tmp_path) == {"p": list(range(1, 9))}
    for found in published:
        assert bundle.open_bundle(found.path) == found


@pytest.mark.parametrize("error", [ZeroDivisionError(), UnauthenticatedError("unknown"), BundleNotFoundError("gone")])
def test_an_exception_publishes_nothing_and_stays_what_it_was(tmp_path, error):
    def fail():
        with bundle.draft(tmp_path, "p", SPEC) as work:
            (work.path / "saved_model.pb").write_bytes(b"x")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert visible(tmp_path) == {}
    assert list((tmp_path / "p").iterdir()) == []


CRASH = """
import sys, time
from pathlib import Path
from tests.bundle.test_bundle import SPEC
from pgkeras.bundle import bundle
with bundle.draft(Path(sys.argv[1]), "p", SPEC) as work:
    (work.path / "saved_model.pb").write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)
"""


def test_a_killed_export_leaves_nothing_visible(tmp_path):
    command = [sys.executable, "-c", CRASH, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert visible(tmp_path) == {}
    with pytest.raises(BundleNotFoundError):
        bundle.find(tmp_path)
    assert publish(tmp_path).version == 1


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB, where that may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system; the same is tested below with a limit on file size")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_leaves_no_half_bundle(small_disk):
    first = publish(small_disk, size=20_000)
    with pytest.raises(ExportError, match=r"cannot write policy p .*No space left on device; nothing was published"):
        publish(small_disk, size=60_000)
    assert visible(small_disk) == {"p": [1]}
    assert bundle.open_bundle(first.path) == first
    assert [entry.name for entry in (small_disk / "p").iterdir()] == ["1"]
    assert publish(small_disk, size=1000).version == 2


LIMITED = """
import resource, sys
from pathlib import Path
from tests.bundle.test_bundle import publish, visible
from pgkeras.errors import ExportError
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    publish(Path(sys.argv[1]), size=2000)
except ExportError as error:
    print(error, visible(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("limit", [1500, 0])
def test_a_write_that_fails_leaves_no_half_bundle(tmp_path, limit):
    command = [sys.executable, "-c", LIMITED, str(tmp_path), str(limit)]
    out = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd=ROOT).stdout
    assert "cannot write policy p" in out
    assert out.endswith("nothing was published {}\n")
    assert visible(tmp_path) == {}


def test_an_unwritable_root_is_an_export_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot write policy p"):
        publish(tmp_path / "file")


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "a\\b", "x" * 129, "a\x00", "é", "-x"])
def test_a_name_that_is_no_name_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="policy name"):
        publish(tmp_path / "root", name)
    assert not (tmp_path / "root").exists()


def test_a_truncated_file_is_corrupt(tmp_path):
    path = publish(tmp_path).path
    (path / "saved_model.pb").write_bytes(b"short")
    with pytest.raises(CorruptBundleError, match=r"saved_model\.pb: expected 100 bytes .*got 5"):
        bundle.open_bundle(path)


def test_a_changed_byte_is_a_digest_mismatch(tmp_path):
    path = publish(tmp_path).path
    data = bytearray((path / "saved_model.pb").read_bytes())
    data[50] ^= 1
    (path / "saved_model.pb").write_bytes(data)
    with pytest.raises(CorruptBundleError, match="SHA-256 mismatch: expected"):
        bundle.open_bundle(path)


def test_a_missing_file_is_corrupt(tmp_path):
    path = publish(tmp_path).path
    (path / bundle.FLATBUFFER).unlink()
    with pytest.raises(CorruptBundleError, match=r"policy\.tflite: missing"):
        bundle.open_bundle(path)


def test_a_newer_schema_says_to_upgrade(tmp_path):
    path = publish(tmp_path).path
    edit(path, lambda manifest: manifest.update(schema_version=2, name={"new": "form"}))
    with pytest.raises(NewerBundleError, match=r"schema 2 is newer .*pip install -U pgkeras"):
        bundle.open_bundle(path)


@pytest.mark.parametrize("what", ["file", "directory"])
def test_a_symbolic_link_is_refused(tmp_path, what):
    path = publish(tmp_path).path
    link = path / "saved_model.pb" if what == "file" else path / "assets.extra"
    shutil.move(link, tmp_path / "elsewhere")
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CorruptBundleError, match="a symbolic link, which a bundle may not hold"):
        bundle.open_bundle(path)


@pytest.mark.parametrize(
    "file", ["variables/added.bin", "assets/a/b", "saved_model.cpb", "assets.extra/pgkeras/x.tflite"]
)
@pytest.mark.parametrize("link", [False, True])
def test_an_added_file_is_refused_where_it_could_be_loaded(tmp_path, file, link):
    path = publish(tmp_path).path
    (path / file).parent.mkdir(parents=True, exist_ok=True)
    if link:
        (path / file).symlink_to("/etc/hostname")
    else:
        (path / file).write_bytes(b"x")
    with pytest.raises(CorruptBundleError, match=rf"{file}: not listed in .*policy\.json; delete it"):
        bundle.open_bundle(path)
    assert bundle.open_bundle(path, ignore_added=True).version == 1


def test_files_that_nothing_loads_do_no_harm(tmp_path):
    published = publish(tmp_path)
    for file in (
        "README.md",
        "replay.mp4",
        ".git/config",
        "variables/.nfs0001",
        "assets.extra/tf_serving_warmup_requests",
    ):
        (published.path / file).parent.mkdir(exist_ok=True)
        (published.path / file).write_bytes(b"x")
    (published.path / "assets").mkdir()
    assert bundle.open_bundle(published.path) == published


def test_a_version_that_is_pruned_as_soon_as_it_is_there_has_been_published(tmp_path, monkeypatch):
    policy_dir, sync, renamed = tmp_path / "p", os.fsync, []

    def and_prune(descriptor):
        sync(descriptor)
        if policy_dir.is_dir() and os.path.samestat(os.fstat(descriptor), policy_dir.stat()) and not renamed:
            renamed.append(bundle.versions(policy_dir))  # the first version has just got its name
            publish(tmp_path)
            prune(policy_dir, 1)

    monkeypatch.setattr(os, "fsync", and_prune)
    published = publish(tmp_path)
    assert renamed == [[1]]
    assert bundle.versions(policy_dir) == [2]
    assert published.version == 1
    assert not published.path.exists()


@pytest.mark.parametrize("file", ["../outside", "/etc/hostname", "variables/../../outside"])
def test_a_file_outside_the_bundle_is_refused(tmp_path, file):
    path = publish(tmp_path).path
    (path.parent / "outside").write_bytes(b"x")
    entry = {"bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    edit(path, lambda manifest: manifest["files"].update({file: entry}))
    with pytest.raises(CorruptBundleError, match="lies outside the bundle"):
        bundle.open_bundle(path)


def test_a_file_that_no_file_system_has_is_corrupt(tmp_path):
    path = publish(tmp_path).path
    edit(path, lambda manifest: manifest["files"].update({"x" * 300: {"bytes": 1, "sha256": ""}}))
    with pytest.raises(CorruptBundleError, match="unreadable: File name too long"):
        bundle.open_bundle(path)


def test_a_manifest_that_is_no_file_is_refused_not_waited_for(tmp_path):
    path = publish(tmp_path).path
    (path / bundle.MANIFEST).unlink()
    os.mkfifo(path / bundle.MANIFEST)
    with pytest.raises(CorruptBundleError, match="not a plain file"):
        bundle.open_bundle(path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "null", "{}", '{"schema_version": "x"}', '{"schema_version": 1}', "\xff", "[" * 99999]
)
def test_a_manifest_that_is_no_manifest_is_corrupt(tmp_path, text):
    path = publish(tmp_path).path
    (path / bundle.MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(CorruptBundleError, match=r"policy\.json"):
        bundle.open_bundle(path)


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=3),
    st.just([]), st.just({}), st.just([10**9, 10**9]), st.just({"box": {}}), st.just({"a": 1}),
)  # fmt: skip


def paths_in(value, at=()):
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths_in(inner, (*at, key))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return publish(tmp_path_factory.mktemp("junk")).path


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_manifest_with_junk_in_it_is_a_bundle_error_or_harmless(published, data):
    file = published / bundle.MANIFEST
    original = file.read_text()
    manifest = json.loads(original)
    *parents, last = data.draw(st.sampled_from([at for at in paths_in(manifest) if at]))
    inner = manifest
    for key in parents:
        inner = inner[key]
    inner[last] = data.draw(JUNK)
    try:
        file.write_text(json.dumps(manifest))
        found = bundle.open_bundle(published)
    except BundleError:
        return
    finally:
        file.write_text(original)
    assert found.spec == SPEC


def test_find_goes_by_the_newest_version_as_a_number(tmp_path):
    for _ in range(10):
        publish(tmp_path)
    assert bundle.find(tmp_path).name == "10"
    assert bundle.find(tmp_path / "p").name == "10"
    assert bundle.find(tmp_path / "p" / "3").name == "3"
    (tmp_path / "p" / "not-a-version").mkdir()
    (tmp_path / "p" / "011").mkdir()
    assert bundle.versions(tmp_path / "p") == list(range(1, 11))


FULL_EXPORT = """
import resource, sys
from pathlib import Path
from tests.serving.conftest import DISCRETE_ACTIONS, export
try:
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
    export(Path(sys.argv[1]), "p", DISCRETE_ACTIONS, hidden=(32,))
except Exception as error:
    print("failed:", error)
"""


def test_an_export_that_cannot_be_written_leaves_nothing(tmp_path):
    command = [sys.executable, "-c", FULL_EXPORT, str(tmp_path)]
    out = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, cwd=ROOT).stdout
    assert "failed:" in out
    assert "File too large" in out
    assert visible(tmp_path) == {}
    assert list((tmp_path / "p").iterdir()) == []


def test_what_is_published_can_be_read_by_a_server_of_another_user(tmp_path):
    assert publish(tmp_path).path.stat().st_mode & 0o777 == 0o755
    change_labels(tmp_path / "p", {"stable": 1})
    assert (tmp_path / "p" / "labels.json").stat().st_mode & 0o777 == 0o644
