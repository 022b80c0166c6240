"""Labels on disk, on the command line and in the server."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pgkeras_serving.policies.store import Store
from pgkeras_serving.settings.config import ServerConfig

from pgkeras.bundle.labels import change_labels, read_labels
from pgkeras.client import PolicyClient
from pgkeras.errors import (
    BundleNotFoundError,
    ConfigError,
    CorruptBundleError,
    ExportError,
    InvalidRequestError,
    PolicyNotFoundError,
)
from pgkeras.v1 import policy_pb2
from tests.serving.conftest import run_cli, running

ONE = np.zeros(4, np.float32)


@pytest.fixture
def root(policies, tmp_path):
    return shutil.copytree(policies, tmp_path / "policies")


def test_labels_are_set_moved_and_deleted(root):
    policy = root / "discrete"
    assert read_labels(policy) == {}
    assert change_labels(policy, {"stable": 1, "canary": 2}) == {"canary": 2, "stable": 1}
    assert change_labels(policy, {"stable": 2}) == read_labels(policy) == {"canary": 2, "stable": 2}
    assert json.loads((policy / "labels.json").read_text()) == {"canary": 2, "stable": 2}
    assert change_labels(policy, {}, ["canary"]) == {"stable": 2}
    assert sorted(path.name for path in policy.iterdir()) == ["1", "2", "labels.json"]


def test_the_command_applies_all_changes_or_none(root):
    change_labels(root / "discrete", {"stable": 1})
    command = ["label", "discrete", "--root", str(root)]
    refused = run_cli(*command, "stable=2", "--delete", "nope")
    assert (refused.returncode, "has no label 'nope'" in refused.stderr) == (1, True)
    refused = run_cli(*command, "stable=1", "stable=2")
    assert (refused.returncode, "label stable is given more than once" in refused.stderr) == (2, True)
    assert read_labels(root / "discrete") == {"stable": 1}
    assert run_cli(*command, "canary=2", "--delete", "stable").stdout == "canary=2\n"


def test_an_invalid_change_changes_nothing(root):
    policy = root / "discrete"
    change_labels(policy, {"stable": 1})
    for label in ("", "1", "a/b", "..", "a" * 65, "a b", "ä"):
        with pytest.raises(ConfigError, match="expected 1 to 64 letters"):
            change_labels(policy, {"canary": 1, label: 1})
    with pytest.raises(BundleNotFoundError, match="has no version 7; there is: 1, 2"):
        change_labels(policy, {"canary": 1, "stable": 7})
    with pytest.raises(BundleNotFoundError, match="has no version 1; there is: none"):
        change_labels(root / "nobody", {"stable": 1})
    with pytest.raises(BundleNotFoundError, match="has no label 'beta'; there is: "):
        change_labels(policy, {}, ["stable", "beta"])
    with pytest.raises(BundleNotFoundError, match="no policy at"):
        change_labels(root / "nobody", {}, ["stable"])
    flatbuffer = policy / "2/assets.extra/pgkeras/policy.tflite"
    flatbuffer.write_bytes(flatbuffer.read_bytes()[:-1])
    with pytest.raises(CorruptBundleError, match=r"no label is set: version 2 is not whole: .*: expected"):
        change_labels(policy, {"stable": 2})
    assert read_labels(policy) == {"stable": 1}
    assert sorted(path.name for path in policy.iterdir()) == ["1", "2", "labels.json"]


@pytest.mark.parametrize("text", ["", "[]", '{"a": "1"}', '{"a": true}', '{"a": 0}', '{"1": 1}', "{" * 10000, "\xff"])
def test_a_malformed_label_file_is_refused(root, text):
    (root / "discrete" / "labels.json").write_text(text, encoding="latin-1")
    with pytest.raises(CorruptBundleError, match=r"labels\.json: "):
        read_labels(root / "discrete")


def test_a_label_file_must_not_be_a_link(root, tmp_path):
    (tmp_path / "elsewhere").write_text('{"stable": 1}')
    (root / "discrete" / "labels.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CorruptBundleError, match="not a plain file"):
        read_labels(root / "discrete")


def test_a_directory_in_place_of_the_label_file_is_refused(root):
    (root / "discrete" / "labels.json").mkdir()
    with pytest.raises((ExportError, CorruptBundleError), match=r"labels\.json"):
        change_labels(root / "discrete", {"stable": 1})


def test_concurrent_changes_are_all_kept(root):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: change_labels(root / "gaussian", {f"l{i}": 1}), range(40)))
    assert read_labels(root / "gaussian") == {f"l{i}": 1 for i in range(40)}


def test_the_command(root):
    def label(*arguments):
        return run_cli("label", *arguments, "--root", str(root))

    assert label("discrete", "stable=1", "canary=2").stdout == "canary=2\nstable=1\n"
    assert label("discrete").stdout == "canary=2\nstable=1\n"
    assert label("discrete", "stable=2", "--delete", "canary").stdout == "stable=2\n"
    for arguments, message in (
        (("discrete", "stable"), "expected LABEL=VERSION, such as stable=3"),
        (("discrete", "stable=x"), "expected LABEL=VERSION"),
        (("discrete", "stable=9"), "has no version 9"),
        (("nobody",), "no policy at"),
        (("../discrete", "stable=1"), "policy name '../discrete'"),
        (("discrete", "--delete", "beta"), "has no label 'beta'"),
    ):
        finished = label(*arguments)
        assert finished.returncode == 1
        assert message in finished.stderr
        assert "Traceback" not in finished.stderr


def test_the_server_resolves_labels(root, tmp_path):
    change_labels(root / "discrete", {"stable": 1, "canary": 2})
    with running(root, tmp_path) as server:
        for label, version in (("stable", 1), ("canary", 2)):
            with PolicyClient(server.target, "discrete", label=label) as client:
                assert client.act(ONE).version == client.describe().version == version
                with client.play() as session:
                    session.step(ONE)
                    assert session.answer.version == version
        with (
            PolicyClient(server.target, "discrete", label="beta") as client,
            pytest.raises(PolicyNotFoundError, match=r"its labels: canary \(version 2\), stable \(version 1\)"),
        ):
            client.act(ONE)
        arguments = ("--target", server.target, "--observation", "[0, 0, 0, 0]", "--policy", "discrete")
        assert run_cli("act", *arguments, "--label", "stable").stdout.startswith("discrete version 1\n")
        with pytest.raises(InvalidRequestError, match="a version or a label"):
            PolicyClient(server.target, "discrete", 1, label="stable")


def test_labels_that_cannot_be_used_are_logged_and_left_out(root, caplog):
    change_labels(root / "discrete", {"stable": 1, "canary": 2})
    shutil.rmtree(root / "discrete" / "2")
    (root / "gaussian" / "labels.json").write_text("[]")
    store = Store(ServerConfig(root))
    store.load()
    assert store.resolve(policy_pb2.PolicyRef(name="discrete", label="stable")).version.version == 1
    for name, label in (("discrete", "canary"), ("gaussian", "stable")):
        with pytest.raises(PolicyNotFoundError):
            store.resolve(policy_pb2.PolicyRef(name=name, label=label))
    assert "does not move to version 2, which is not ready" in caplog.text
    assert "expected an object of labels and versions" in caplog.text


def test_a_single_served_version_has_only_its_own_labels(root, caplog):
    change_labels(root / "discrete", {"stable": 1, "canary": 2})
    store = Store(ServerConfig(root / "discrete" / "1"))
    store.load()
    store.refresh()
    assert store.labels() == {"discrete": {"stable": 1}}
    assert "does not move" not in caplog.text
