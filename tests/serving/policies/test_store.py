"""The policy store: which policies it finds, and how it handles broken ones."""

from __future__ import annotations

import json
import logging
import shutil
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
from pgkeras_serving.inference import warmup as warming
from pgkeras_serving.policies import catalog
from pgkeras_serving.policies.store import Store
from pgkeras_serving.settings.config import ServerConfig

from pgkeras.bundle import bundle as bundles
from pgkeras.bundle.labels import change_labels
from pgkeras.client import PolicyClient
from pgkeras.errors import BundleError, BundleNotFoundError, PolicyNotFoundError, ServerUnavailableError
from pgkeras.protocol.wire import encode_tensor
from pgkeras.v1 import policy_pb2, service_pb2, tensors_pb2
from tests.serving.conftest import run_cli, running


def loaded(root, **settings):
    store = Store(ServerConfig(root, **settings))
    store.load()
    return store


def names(store):
    return [(policy.version.name, policy.version.version) for policy in store.policies()]


def corrupt(path, change):
    file = path / "assets.extra/pgkeras/policy.tflite"
    data = bytearray(file.read_bytes())
    file.write_bytes(change(data))


@pytest.fixture
def copy(policies, tmp_path):
    return shutil.copytree(policies, tmp_path / "policies")


def test_the_root_may_be_a_directory_of_policies_a_policy_or_a_version(policies):
    assert names(loaded(policies)) == [("discrete", 1), ("discrete", 2), ("gaussian", 1)]
    assert names(loaded(policies / "discrete")) == [("discrete", 1), ("discrete", 2)]
    assert names(loaded(policies / "discrete" / "1")) == [("discrete", 1)]


def test_a_policy_has_the_name_of_its_directory(policies, tmp_path):
    shutil.copytree(policies / "discrete" / "2", tmp_path / "renamed" / "9")
    assert names(loaded(tmp_path)) == [("renamed", 9)]


def test_references_resolve(policies):
    store = loaded(policies)
    find = lambda **ref: store.resolve(policy_pb2.PolicyRef(**ref)).version.version  # noqa: E731
    assert find(name="discrete") == 2
    assert find(name="discrete", version=1) == 1
    with pytest.raises(PolicyNotFoundError):
        find()
    only = loaded(policies / "gaussian")
    assert only.resolve(policy_pb2.PolicyRef()).version.name == "gaussian"
    with pytest.raises(PolicyNotFoundError, match="'gaussian' has no version 7"):
        only.resolve(policy_pb2.PolicyRef(version=7))


def test_nothing_resolves_before_loading(policies):
    with pytest.raises(ServerUnavailableError, match="still loading"):
        Store(ServerConfig(policies)).resolve(policy_pb2.PolicyRef(name="discrete"))


def test_a_broken_version_is_logged_and_the_others_are_served(copy, caplog):
    corrupt(copy / "discrete" / "2", lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    corrupt(copy / "gaussian" / "1", lambda data: data[: len(data) // 2])
    with caplog.at_level(logging.ERROR):
        store = loaded(copy)
    assert names(store) == [("discrete", 1)]
    assert "SHA-256 mismatch" in caplog.text
    assert "expected" in caplog.text
    assert str(copy / "gaussian" / "1") in caplog.text
    with pytest.raises(PolicyNotFoundError, match="no policy 'gaussian'"):
        store.resolve(policy_pb2.PolicyRef(name="gaussian"))


def test_no_usable_policy_is_an_error_with_the_reasons(copy):
    for version in copy.glob("*/*"):
        corrupt(version, lambda data: data[:-1])
    with pytest.raises(BundleError, match=r"no policy under .* can be served: .*expected \d+ bytes"):
        loaded(copy)


def test_a_policy_that_is_deleted_during_loading_is_served(copy, monkeypatch):
    def warm_up(*arguments):
        sizes = warming.warm_up(*arguments)
        shutil.rmtree(copy / "discrete", ignore_errors=True)
        shutil.rmtree(copy / "gaussian", ignore_errors=True)
        return sizes

    monkeypatch.setattr(catalog, "warm_up", warm_up)
    assert names(loaded(copy)) == [("discrete", 1)]


def test_a_replaced_network_is_measured_anew(copy, monkeypatch):
    known = []

    def warm_up(*arguments):
        known.append(arguments[-1])
        return warming.warm_up(*arguments)

    def without_flatbuffer(version):
        file = version / bundles.MANIFEST
        manifest = json.loads(file.read_text())
        del manifest["files"][bundles.FLATBUFFER.as_posix()]
        (version / bundles.FLATBUFFER).unlink()
        file.write_text(json.dumps(manifest))

    monkeypatch.setattr(catalog, "warm_up", warm_up)
    for version in ("1", "2"):
        without_flatbuffer(copy / "discrete" / version)
    store = loaded(copy / "discrete" / "1", engine="tensorflow")
    (copy / "discrete" / "1").rename(copy / "before")
    shutil.copytree(copy / "discrete" / "2", copy / "discrete" / "1")
    store.refresh()
    assert known == [None, None], "no timings of the first network were passed on"


def test_an_empty_root_is_an_error_with_advice(tmp_path):
    with pytest.raises(BundleNotFoundError, match="pgkeras train"):
        loaded(tmp_path)
    with pytest.raises(BundleNotFoundError, match="no exported policy"):
        loaded(tmp_path / "nowhere")


def test_serve_exits_1_with_the_reason(tmp_path):
    finished = run_cli("serve", str(tmp_path), "--port", "0")
    assert finished.returncode == 1
    assert "Error: no exported policy at" in finished.stderr
    assert "Traceback" not in finished.stderr
    (tmp_path / "runs" / "mine" / "checkpoints").mkdir(parents=True)
    (tmp_path / "models" / "mine" / "3").mkdir(parents=True)
    for path, told in (
        ("nowhere", "there is no such path"),
        ("models/mine/9", "there is no such path; models/mine has version 3"),
        ("runs", "that is a directory of runs; export one with: pgkeras export runs/mine"),
        ("runs/mine", "that is a run; export one with: pgkeras export runs/mine"),
    ):
        with pytest.raises(BundleNotFoundError, match=rf"^no exported policy at {path}: {told}$"), chdir(tmp_path):
            loaded(Path(path))


def test_serve_without_a_root_needs_saved_models(tmp_path, policies):
    finished = run_cli("serve", "--port", "0", cwd=tmp_path)
    assert finished.returncode == 1
    assert "there is no directory saved_models here" in finished.stderr


def test_the_tensorflow_engine_serves(copy, tmp_path):
    with running(copy / "gaussian", tmp_path, "--engine", "tensorflow") as server:
        assert server.ready == f"pgkeras: serving gaussian (version 1, tensorflow) on {server.target}"
        with PolicyClient(server.target) as client:
            assert client.act(np.zeros(4, np.float32)).action.shape == (2, 1)
        assert server.stop() == 0


def call(policy, extra=b""):
    """An encoded request without its policy reference, and the encoded reference. They can be joined in any order."""
    observation = tensors_pb2.Value(tensor=encode_tensor(np.zeros(4, np.float32)))
    reference = policy.SerializeToString() + extra
    message = service_pb2.ActRequest(observation=observation).SerializeToString()
    return message, bytes([0x0A, len(reference)]) + reference


def test_a_label_encoded_after_the_observation_is_resolved_too(policies, tmp_path):
    root = shutil.copytree(policies / "discrete", tmp_path / "p" / "discrete").parent
    change_labels(root / "discrete", {"stable": 2})
    store = Store(ServerConfig(root))
    store.load()
    message, reference = call(policy_pb2.PolicyRef(label="stable"))
    assert [store.decode(message + reference)[0].version.version for _ in range(2)] == [2, 2]
    change_labels(root / "discrete", {"stable": 1})
    store.refresh()
    assert store.decode(message + reference)[0].version.version == 1
    store.close()


def test_the_cache_of_references_is_bounded(policies):
    store = Store(ServerConfig(policies / "discrete"))
    store.load()
    for i in range(1000):  # each with another unknown field
        message, reference = call(policy_pb2.PolicyRef(name="discrete"), b"\xf8\x07" + bytes([i & 127 | 128, i >> 7]))
        assert store.decode(reference + message)[0].version.version == 2
    assert 0 < len(store._contents.by_reference) <= 256
    store.close()
