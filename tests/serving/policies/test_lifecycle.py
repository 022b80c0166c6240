"""Versions and labels as operators and clients see them: in descriptions, health checks and during training."""

from __future__ import annotations

import json
import re
import shutil

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pgkeras.client import PolicyClient
from pgkeras.errors import PolicyNotFoundError
from tests.cli.conftest import here
from tests.serving.conftest import run_cli, running, wait_until

ONE = np.zeros(4, np.float32)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def root(policies, tmp_path):
    """A copy of the policies that the test may change."""
    return shutil.copytree(policies, tmp_path / "policies")


def test_descriptions_contain_labels_and_episodes(root, tmp_path):
    with running(root, tmp_path, "--poll-seconds", "0.05") as server, PolicyClient(server.target, "discrete") as client:
        assert client.describe().labels == ()
        assert client.describe().episodes.mean_return is None
        assert run_cli("label", "discrete", "stable=1", "old=1", "canary=2", "--root", str(root)).returncode == 0
        wait_until(lambda: client.describe().labels == ("canary",))
        with client.play() as session:
            session.step(ONE)
            for reward in (1.0, 2.5):
                session.step(ONE, reward, reward > 2, False)
        played = client.describe().episodes
        assert (played.count, played.mean_return, played.mean_length) == (1, 3.5, 2.0)
        listed = {(info.name, info.version): info for info in client.policies()}
        assert listed["discrete", 1].labels == ("old", "stable")
        assert listed["discrete", 1].episodes.count == 0
        assert listed["discrete", 2].episodes == played
        found = json.loads(run_cli("info", server.target, "--json").stdout)
        assert [policy["labels"] for policy in found] == [["old", "stable"], ["canary"], []]
        assert found[1]["episodes"] == {"count": 1, "mean_return": 3.5, "mean_length": 2.0}
        assert re.search(r"^labels +old, stable$", run_cli("info", server.target).stdout, re.MULTILINE)
        # Rolls back with one command.
        assert run_cli("label", "discrete", "canary=1", "--root", str(root)).returncode == 0
        wait_until(lambda: client.describe().labels == ())


def test_a_replaced_version_starts_without_episodes(root, tmp_path):
    with running(root, tmp_path, "--poll-seconds", "0.05") as server, PolicyClient(server.target, "discrete") as client:
        with client.play() as session:
            session.step(ONE)
            session.step(ONE, 1.0, True, False)
        assert client.describe().episodes.count == 1
        shutil.copytree(root / "discrete" / "1", root / "discrete" / ".other")
        (root / "discrete" / "2").rename(root / "discrete" / ".gone")
        (root / "discrete" / ".other").rename(root / "discrete" / "2")
        wait_until(lambda: client.describe().episodes.count == 0)
        assert client.describe().version == 2


def test_a_label_does_not_move_to_a_broken_version(root, tmp_path):
    assert run_cli("label", "discrete", "stable=1", "--root", str(root)).returncode == 0
    with running(root, tmp_path, "--poll-seconds", "0.05") as server:
        shutil.copytree(root / "discrete" / "2", root / "discrete" / "3")
        (root / "discrete" / "3" / "fingerprint.pb").write_text("broken")
        refused = run_cli("label", "discrete", "stable=3", "--root", str(root))
        assert refused.returncode == 1
        assert "fingerprint.pb" in refused.stderr
        (root / "discrete" / "labels.json").write_text('{"stable": 3}')  # bypasses the command's check
        wait_until(lambda: "does not move to version 3, which is not ready" in server.log.read_text())
        with PolicyClient(server.target, "discrete", label="stable") as client:
            assert client.describe().version == 1


def test_health_is_reported_per_policy(root, tmp_path):
    with (
        running(root, tmp_path, "--poll-seconds", "0.05") as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)

        def check(name):
            return health.Check(health_pb2.HealthCheckRequest(service=f"policies/{name}"), timeout=10).status

        assert check("discrete") == check("gaussian") == SERVING
        with pytest.raises(grpc.RpcError) as caught:
            check("nobody")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        watch = health.Watch(health_pb2.HealthCheckRequest(service="policies/gaussian"), timeout=60)
        assert next(watch).status == SERVING
        (root / "gaussian").rename(tmp_path / "elsewhere")
        assert next(watch).status == NOT_SERVING
        assert check("discrete") == SERVING
        (tmp_path / "elsewhere").rename(root / "gaussian")
        assert next(watch).status == SERVING


def test_nothing_from_outside_the_root_is_served(root, tmp_path):
    outside = tmp_path / "outside"
    shutil.copytree(root / "gaussian", outside)
    (root / "linked").symlink_to(outside)
    (root / "discrete" / "3").symlink_to(outside / "1")
    (root / "discrete" / "4").symlink_to(root / "discrete" / "1")  # stays inside the root
    with running(root, tmp_path) as server:
        with PolicyClient(server.target) as client:
            served = [(info.name, info.version) for info in client.policies()]
        assert served == [("discrete", 1), ("discrete", 2), ("discrete", 4), ("gaussian", 1)]
        with PolicyClient(server.target, "linked") as client, pytest.raises(PolicyNotFoundError):
            client.act(ONE)
        for link in ("discrete/3", "linked/1"):
            reason = f"{link}: a symbolic link that leads out of {root}"
            wait_until(lambda reason=reason: reason in server.log.read_text())


def test_training_deploys_into_a_served_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "served"
    train = ("train", "CartPole-v1", "--serve-to", str(root), "--out")
    first = here(*train, "a", "--steps", "400", "--serve-every", "1000")
    assert first.exit_code == 0, first.output
    assert first.stdout.rstrip().endswith(f"Published: {root}/cartpole-v1/1")
    with running(root, tmp_path, "--poll-seconds", "0.05") as server, PolicyClient(server.target) as client:
        assert client.describe().version == 1
        options = ("--steps", "1200", "--serve-every", "0", "--set", "stop_return=none")
        second = here(*train, "b", *options)
        assert second.exit_code == 0, second.output
        versions = [int(path.rpartition("/")[2]) for path in second.stdout.rstrip().split("Published: ")[1].split(", ")]
        assert len(versions) >= 2  # one per epoch
        assert versions == list(range(2, 2 + len(versions)))
        wait_until(lambda: client.describe().version == versions[-1])
        assert client.act(ONE).version == versions[-1]
        epochs = [info.provenance["results"]["exported_epoch"] for info in client.policies()][1:]
        assert epochs == sorted(set(epochs))
