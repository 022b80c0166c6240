"""A server of the policy that ships, for tests that are rough with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.soak.policies import export_slow
from benchmarks.soak.server import SHIPPED, Server, publish, serving
from pgkeras.client import PolicyClient

ONE = np.array([0.0, 0.1, 0.0, -0.1], np.float32)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory of one policy, ``p``, of one version."""
    (tmp_path / "policies" / "p").mkdir(parents=True)
    publish(tmp_path / "policies" / "p", 1)
    return tmp_path / "policies"


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the shipped policy; a module's tests leave it as sound as they found it."""
    with serving(SHIPPED, tmp_path_factory.mktemp("shipped")) as server:
        yield server
        assert server.stop() == 0
        assert "pgkeras_serving/" not in server.log.read_text(), "no traceback of ours"


@pytest.fixture(scope="session")
def slow_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy ``slow``, whose engine takes far longer than the transport, beside the shipped one. Read only."""
    root = tmp_path_factory.mktemp("slow")
    export_slow(root)
    (root / "fast").mkdir()
    publish(root / "fast", 1)
    return root


def is_sound(target: str) -> bool:
    """Whether a server gives a good request its answer."""
    with PolicyClient(target, timeout=60.0) as client:
        return int(client.act(ONE, "greedy").action) in (0, 1)
