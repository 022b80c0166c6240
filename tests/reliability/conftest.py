"""Servers of the shipped policy, for tests that send faults and overload."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.soak.server import SHIPPED, Server, publish, serving
from pgkeras.client import PolicyClient
from tests.serving.conftest import shared_slow_policy

ONE = np.array([0.0, 0.1, 0.0, -0.1], np.float32)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with one policy, ``p``, in one version."""
    (tmp_path / "policies" / "p").mkdir(parents=True)
    publish(tmp_path / "policies" / "p", 1)
    return tmp_path / "policies"


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the shipped policy. At the end of the module it must exit with 0, without a traceback of ours."""
    with serving(SHIPPED, tmp_path_factory.mktemp("shipped")) as server:
        yield server
        assert server.stop() == 0
        assert "pgkeras_serving/" not in server.log.read_text()


@pytest.fixture(scope="session")
def slow_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy ``slow``, whose engine needs much longer than the transport, and ``fast``, the shipped one."""
    root = tmp_path_factory.mktemp("slow-and-fast")
    shutil.copytree(shared_slow_policy(tmp_path_factory), root, dirs_exist_ok=True)
    (root / "fast").mkdir()
    publish(root / "fast", 1)
    return root


def is_sound(target: str, actions: range = range(2)) -> bool:
    """Whether a server answers a valid request with one of the policy's actions."""
    with PolicyClient(target, timeout=60.0) as client:
        return int(client.act(ONE, "greedy").action) in actions
