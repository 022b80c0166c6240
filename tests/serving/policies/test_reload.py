"""The policy store while its directory changes."""

from __future__ import annotations

import dataclasses
import gc
import logging
import shutil
import threading
import weakref
from collections import Counter

import numpy as np
import pytest
from pgkeras_serving.policies.store import Store
from pgkeras_serving.settings.config import ServerConfig

from pgkeras.bundle.labels import change_labels
from pgkeras.client import PolicyClient
from pgkeras.errors import PolicyNotFoundError
from pgkeras.v1 import policy_pb2
from tests.serving.conftest import DISCRETE_ACTIONS, export, running, wait_until

ONE = np.zeros(4, np.float32)
FLATBUFFER = "assets.extra/pgkeras/policy.tflite"


@pytest.fixture
def root(policies, tmp_path):
    shutil.copytree(policies / "discrete" / "1", tmp_path / "policies" / "p" / "1")
    return tmp_path / "policies"


@pytest.fixture
def store(root):
    store = Store(ServerConfig(root))
    store.load()
    return store


def find(store, **ref):
    return store.resolve(policy_pb2.PolicyRef(name="p", **ref))


def publish(policies, root, version, source="2"):
    return shutil.copytree(policies / "discrete" / source, root / "p" / str(version))


def test_a_new_version_is_served_and_nothing_else_is_reloaded(store, policies, root):
    old = find(store)
    publish(policies, root, 5)
    store.refresh()
    assert find(store).version.version == 5
    assert find(store, version=1) is old
    shutil.copytree(policies / "gaussian", root / "other")
    store.refresh()
    assert store.resolve(policy_pb2.PolicyRef(name="other")).version.version == 1
    assert [policy.version.version for policy in store.policies()] == [1, 1, 5]


def test_a_corrupt_version_is_logged_once_and_served_after_its_repair(store, policies, root, caplog):
    path = publish(policies, root, 2)
    whole = (path / FLATBUFFER).read_bytes()
    (path / FLATBUFFER).write_bytes(whole[:-1])
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            store.refresh()
            assert find(store).version.version == 1
        assert len(caplog.records) == 1
        assert "not serving" in caplog.text
        assert str(path) in caplog.text
        (path / FLATBUFFER).write_bytes(whole)
        store.refresh()
    assert find(store).version.version == 2
    assert len(caplog.records) == 1
    for count in (2, 3):  # a version that is deleted and comes back is reported again
        broken = publish(policies, root, 3)
        (broken / FLATBUFFER).unlink()
        for _ in range(3):
            store.refresh()
        assert len(caplog.records) == count
        shutil.rmtree(broken)
        store.refresh()


def test_a_version_that_is_being_copied_is_not_reported(store, policies, root, caplog):
    source, target = policies / "discrete" / "2", root / "p" / "2"
    files = sorted(path for path in source.rglob("*") if path.is_file())
    with caplog.at_level(logging.ERROR):
        for file in files:
            assert find(store).version.version == 1
            (target / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target / file.relative_to(source))
            store.refresh()
    assert find(store).version.version == 2
    assert not caplog.records


def test_a_replaced_version_is_reloaded_and_a_broken_replacement_is_not(store, policies, root, caplog):
    old = find(store)
    shutil.rmtree(root / "p" / "1")
    shutil.copytree(policies / "gaussian" / "1", root / "p" / "1")
    store.refresh()
    new = find(store)
    assert new.version.spec_hash != old.version.spec_hash
    shutil.rmtree(root / "p" / "1")
    broken = publish(policies, root, 1)
    (broken / FLATBUFFER).unlink()
    for _ in range(3):
        store.refresh()
        assert find(store) is new
    assert caplog.text.count("missing") == 1


def test_a_deleted_version_is_retired_after_its_last_request(store, policies, root):
    publish(policies, root, 2)
    store.refresh()
    in_flight = find(store, version=1)
    retired = weakref.ref(in_flight)
    shutil.rmtree(root / "p" / "1")
    store.refresh()
    with pytest.raises(PolicyNotFoundError, match="has no version 1; there is: p"):
        find(store, version=1)
    gc.collect()
    assert retired() is in_flight
    del in_flight
    gc.collect()
    assert retired() is None


def test_policies_stay_served_when_their_directory_vanishes(store, root, caplog):
    before = find(store)
    aside = root.rename(root.with_name("aside"))
    for _ in range(3):
        store.refresh()
        assert find(store) is before
    assert caplog.text.count("still serving the versions loaded before") == 1
    (root / "p").mkdir(parents=True)
    for _ in range(2):
        store.refresh()
        assert find(store) is before
    assert caplog.text.count("still serving the versions loaded before") == 2, "the directory is back, but empty"
    (root / "p" / "7").mkdir()
    for _ in range(3):
        store.refresh()
        assert find(store) is before
    assert caplog.text.count("still serving the versions loaded before") == 3
    shutil.rmtree(root)
    aside.rename(root)
    store.refresh()
    assert find(store).version.version == 1


def test_a_failed_version_is_listed_although_an_older_one_stays_served(store, policies, root):
    shutil.rmtree(root / "p" / "1")
    (publish(policies, root, 2) / "saved_model.pb").write_bytes(b"x")
    store.refresh()
    assert find(store).version.version == 1, "it stays served because no other version loads"
    (failure,) = store.failures()
    assert failure.startswith(f"{root / 'p' / '2'}/saved_model.pb: expected")
    shutil.rmtree(root / "p" / "2")
    store.refresh()
    assert find(store).version.version == 1
    assert store.failures() == []


def test_a_failed_first_version_is_listed_until_it_is_deleted(policies, root):
    (root / "p" / "1" / "saved_model.pb").write_bytes(b"x")
    store = Store(ServerConfig(root, wait_for_policies=True))
    store.load()
    assert len(store.failures()) == 1
    shutil.rmtree(root / "p" / "1")
    store.refresh()
    assert store.failures() == []


def test_a_label_moves_only_to_a_version_that_is_ready(store, policies, root, caplog):
    change_labels(root / "p", {"stable": 1})
    store.refresh()
    path = publish(policies, root, 2)
    change_labels(root / "p", {"stable": 2, "canary": 2})
    (path / FLATBUFFER).write_bytes(b"")
    for _ in range(3):
        store.refresh()
        assert find(store, label="stable").version.version == 1
        with pytest.raises(PolicyNotFoundError, match=r"its labels: stable \(version 1\)"):
            find(store, label="canary")
    assert caplog.text.count("label stable") == 1
    shutil.copy(policies / "discrete" / "2" / FLATBUFFER, path / FLATBUFFER)
    store.refresh()
    assert find(store, label="stable").version.version == find(store, label="canary").version.version == 2
    (root / "p" / "labels.json").write_text("{")
    for _ in range(3):
        store.refresh()
        assert find(store, label="stable").version.version == 2
    assert caplog.text.count("labels stay as they were") == 1
    (root / "p" / "labels.json").unlink()
    store.refresh()
    with pytest.raises(PolicyNotFoundError, match="its labels: none"):
        find(store, label="stable")


def test_a_policy_that_is_newer_than_the_labels_has_none_yet(store):
    store._contents = dataclasses.replace(store._contents, labels={})  # as if p had arrived after they were read
    with pytest.raises(PolicyNotFoundError, match="policy 'p' has no label 'stable'; its labels: none"):
        find(store, label="stable")


def test_a_first_version_that_is_still_being_copied_is_not_reported(policies, tmp_path, caplog):
    source, target = policies / "discrete" / "2", tmp_path / "empty" / "p" / "2"
    target.parents[1].mkdir()
    store = Store(ServerConfig(target.parents[1], wait_for_policies=True))
    store.load()
    with caplog.at_level(logging.ERROR):
        for file in sorted(path for path in source.rglob("*") if path.is_file()):
            (target / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target / file.relative_to(source))
            store.refresh()
    assert find(store).version.version == 2
    assert not caplog.records


def test_deploying_under_load_fails_no_request(root, policies, tmp_path):
    seen, failures, stop = Counter(), [], threading.Event()

    def act(**ref):
        with PolicyClient(server.target, "p", **ref) as client:
            while not stop.is_set():
                try:
                    seen[client.act(ONE).version, *ref] += 1
                except Exception as error:
                    failures.append(error)

    def play():
        with PolicyClient(server.target, "p", version=1) as client, client.play() as session:
            session.step(ONE)
            while not stop.is_set():
                try:
                    session.step(ONE, 0.0, False, False)
                    seen["played", session.answer.version] += 1
                except Exception as error:
                    failures.append(error)

    change_labels(root / "p", {"stable": 1})
    with running(root, tmp_path, "--poll-seconds", "0.02") as server:
        threads = [threading.Thread(target=act) for _ in range(2)]
        threads += [threading.Thread(target=act, kwargs={"label": "stable"}), threading.Thread(target=play)]
        for thread in threads:
            thread.start()
        wait_until(lambda: seen["played", 1] > 0)
        for version in range(2, 6):
            publish(policies, root, version, "12"[version % 2])  # not atomic: the copy is incomplete for a while
            wait_until(lambda version=version: seen[version,] > 0)
            change_labels(root / "p", {"stable": version})
            wait_until(lambda version=version: seen[version, "label"] > 0)
        export(root, "p", DISCRETE_ACTIONS)
        wait_until(lambda: seen[6,] > 0)
        shutil.rmtree(root / "p" / "1")
        shutil.rmtree(root / "p" / "2")
        with PolicyClient(server.target, "p", version=1) as client:
            wait_until(lambda: refused(client))
        played = seen["played", 1]
        wait_until(lambda: seen["played", 1] > played)  # the session keeps its version
        stop.set()
        for thread in threads:
            thread.join(20)
        assert not failures
        assert server.stop() == 0
        assert "Traceback" not in server.said()


def refused(client):
    try:
        client.act(ONE)
    except PolicyNotFoundError:
        return True
    return False
