"""Faults under load: policies that are replaced, corrupted or deleted, servers that are killed, and overload."""

from __future__ import annotations

import contextlib
import re
import shutil
import threading
from collections import Counter

import pytest

from benchmarks.soak.kills import kills
from benchmarks.soak.overload import overload
from benchmarks.soak.server import SHIPPED, publish, serving
from benchmarks.soak.swaps import swaps
from pgkeras import bench
from pgkeras.bundle.bundle import FLATBUFFER, MANIFEST
from pgkeras.client import PolicyClient
from pgkeras.errors import PolicyServiceError
from tests.reliability.conftest import ONE, is_sound
from tests.serving.conftest import wait_until


def test_swaps_under_load_fail_no_request(tmp_path):
    _check_swaps(swaps(tmp_path, count=3, rate=100.0, seconds=1.0), 3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_swaps_under_load_fail_no_request(tmp_path):
    found = swaps(tmp_path)
    _check_swaps(found, 100)
    assert found["rss_kb_per_swap"] < 100


def _check_swaps(found, count):
    assert found["swaps"] == count
    assert found["calls"] > 50
    assert found["failed"] == {}
    assert found["clean_log"]
    assert found["exit_status"] == 0


def test_clients_go_on_after_kills(tmp_path):
    _check_kills(kills(tmp_path, count=2, longest_life=0.5), 2)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_clients_go_on_after_many_kills(tmp_path):
    _check_kills(kills(tmp_path, count=25), 25)


def _check_kills(found, count):
    assert found["kills"] == count
    assert found["failures_that_say_to_come_back"] > 0
    assert found["other_failures"] == []
    assert found["all_clients_went_on"]
    assert found["newest_version_is_served"]
    assert found["clean_log"]
    assert found["exit_status"] == 0


def test_what_is_too_much_is_refused_and_the_rest_is_answered(slow_root, tmp_path):
    """16 concurrent callers send 16,384 rows, of which the engine computes only a part within the longest wait."""
    with serving(slow_root / "slow", tmp_path, "--max-queue-seconds", "0.05") as server:
        load = bench.Load(server.target, batch=1024, concurrency=16, duration=0.5, warmup=0.0, timeout=60.0)
        codes = bench.run(load).codes
        assert set(codes) == {"OK", "RESOURCE_EXHAUSTED"}
        assert codes["OK"] > 0
        assert codes["RESOURCE_EXHAUSTED"] > 0
        assert is_sound(server.target, actions=range(5, 8))
        assert server.stop() == 0
        assert "Traceback" not in server.log.read_text()


@pytest.mark.slow
def test_three_times_a_servers_capacity_is_partly_refused_and_the_rest_is_answered(slow_root, tmp_path):
    found = overload(slow_root / "slow", tmp_path, "--max-queue-seconds", "0.5", rounds=1)
    assert set(found["codes"]) == {"OK", "RESOURCE_EXHAUSTED"}
    assert found["codes"]["OK"] > 0
    assert found["codes"]["RESOURCE_EXHAUSTED"] > 0
    assert found["afterwards"]["OK"] > 0
    assert found["clean_log"]
    assert found["exit_status"] == 0


class Faults:
    """Faults of a policy's directory while it is served. After each, version 1 must still be served."""

    @staticmethod
    def corrupt(policy):
        path = publish(policy, 2) / FLATBUFFER
        path.write_bytes(path.read_bytes()[:-1] + b"\0")

    @staticmethod
    def half_copied(policy):
        shutil.copytree(SHIPPED, policy / "2", ignore=shutil.ignore_patterns("variables*", "*.tflite"))

    @staticmethod
    def no_manifest(policy):
        shutil.copytree(SHIPPED, policy / "2", ignore=shutil.ignore_patterns("policy.json"))

    @staticmethod
    def empty(policy):
        (policy / "2").mkdir()

    @staticmethod
    def overwritten_in_place(policy):
        for file in (policy / "1").rglob("*"):
            if file.is_file():
                file.write_bytes(b"nonsense")

    @staticmethod
    def replaced_by_nonsense(policy):
        # Replaces the manifest atomically, because a version without one counts as deleted and gets no new requests.
        (policy / "nonsense").write_text("[" * 100_000)
        (policy / "nonsense").replace(policy / "1" / MANIFEST)
        shutil.rmtree(policy / "1" / "variables")
        (policy / "1" / FLATBUFFER).unlink()

    @staticmethod
    def a_version_that_leads_out(policy):
        outside = policy.parent.parent / "outside-version"
        shutil.copytree(SHIPPED, outside)
        (policy / "2").symlink_to(outside)

    @staticmethod
    def a_policy_that_leads_out(policy):
        outside = policy.parent.parent / "outside-policy"
        shutil.copytree(policy, outside)
        (policy.parent / "other").symlink_to(outside)

    @staticmethod
    def a_file_that_leads_out(policy):
        path = publish(policy, 2) / FLATBUFFER
        outside = policy.parent.parent / "outside-file"
        path.rename(outside)
        path.symlink_to(outside)

    @staticmethod
    def labels_of_nonsense(policy):
        (policy / "labels.json").write_text('{"stable": "../../etc"}')


FAULTS = [name for name in vars(Faults) if not name.startswith("_")]


def test_spoilt_directories_spoil_no_answer(tmp_path):
    root = tmp_path / "policies"
    for fault in FAULTS:
        (root / fault).mkdir(parents=True)
        publish(root / fault, 1)
    with serving(root, tmp_path, "--poll-seconds", "0.02") as server, contextlib.ExitStack() as stack:
        clients = {fault: stack.enter_context(PolicyClient(server.target, fault)) for fault in FAULTS}
        stop, versions, failures = threading.Event(), {fault: Counter() for fault in FAULTS}, []

        def act():
            while not stop.is_set():
                for fault, client in clients.items():
                    try:
                        versions[fault][client.act(ONE).version] += 1
                    except Exception as error:
                        failures.append(error)

        acting = threading.Thread(target=act)
        acting.start()
        for fault in FAULTS:
            getattr(Faults, fault)(root / fault)
        wait_until(lambda: len(re.findall("leads out of|a symbolic link", server.log.read_text())) >= 3)
        seen = versions[FAULTS[-1]][1]
        wait_until(lambda: versions[FAULTS[-1]][1] > seen + 20)
        assert {fault: set(counts) for fault, counts in versions.items()} == {fault: {1} for fault in FAULTS}
        for fault in FAULTS:  # a valid new version is still picked up
            publish(root / fault, 7)
        wait_until(lambda: all(counts[7] for counts in versions.values()))
        stop.set()
        acting.join()
        assert failures == []
        assert "other" not in {policy.name for policy in clients[FAULTS[0]].policies()}
        assert server.stop() == 0
        assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("fault", ["deleted", "replaced by a file"])
def test_policies_stay_served_when_the_root_disappears(fault, root, tmp_path):
    with serving(root, tmp_path, "--poll-seconds", "0.02") as server, PolicyClient(server.target) as client:
        client.act(ONE)
        shutil.rmtree(root)
        if fault != "deleted":
            root.write_text("nonsense")
        wait_until(lambda: "still serving the versions loaded before" in server.log.read_text())
        assert client.act(ONE).version == 1
        root.unlink(missing_ok=True)
        (root / "p").mkdir(parents=True)
        publish(root / "p", 7)
        wait_until(lambda: client.describe().version == 7)
        assert server.stop() == 0
        assert "Traceback" not in server.log.read_text()


def test_links_within_the_root_are_followed(root, tmp_path):
    (root / "p" / "2").symlink_to(root / "p" / "1")
    (root / "alias").symlink_to(root / "p")
    link = tmp_path / "link"
    link.symlink_to(root)
    with serving(link, tmp_path) as server, PolicyClient(server.target) as client:
        assert {(policy.name, policy.version) for policy in client.policies()} == {
            (name, version) for name in ("p", "alias") for version in (1, 2)
        }


def test_one_policys_faults_are_not_anothers(root, tmp_path):
    (root / "q").mkdir()
    publish(root / "q", 1)
    with (
        serving(root, tmp_path, "--poll-seconds", "0.02") as server,
        PolicyClient(server.target, "q") as broken,
        PolicyClient(server.target, "p") as whole,
    ):
        shutil.rmtree(root / "q")

        def is_gone():
            try:
                broken.act(ONE)
            except PolicyServiceError:
                return True
            return False

        assert whole.act(ONE).version == 1
        wait_until(is_gone)
        assert whole.act(ONE).version == 1
        assert server.stop() == 0
