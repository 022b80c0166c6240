"""Exports small policies once and serves them by a real server process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from benchmarks.soak.server import Server
from benchmarks.soak.server import serving as running
from pgkeras.client import PolicyClient
from pgkeras.files import changing_alone
from pgkeras.spaces import Box, Discrete, Space
from pgkeras.v1 import service_pb2_grpc

ROOT = Path(__file__).parents[2]
OBSERVATIONS = Box(np.full(4, -np.inf), np.full(4, np.inf), np.dtype(np.float32))
DISCRETE_ACTIONS = Discrete(3, start=5)
# Wide enough that no sample of these tests is clipped.
CONTINUOUS_ACTIONS = Box(np.full((2, 1), -10.0), np.full((2, 1), 10.0), np.dtype(np.float32))


def export(root: Path, name: str, action_space: Space, hidden: tuple[int, ...] = (8,), seed: int = 0) -> Path:
    """Exports a policy whose weights are large enough that its outputs differ between observations."""
    from pgkeras.policy.export import export_policy
    from pgkeras.policy.policy import Policy
    from pgkeras.settings.groups import NetworkSettings

    settings = NetworkSettings(hidden=hidden, initial_log_std=-0.5)
    policy = Policy(OBSERVATIONS, action_space, settings=settings, seed=seed)
    generator = np.random.default_rng(seed)
    for variable in policy.variables:
        variable.assign(generator.normal(0.0, 1.0 / np.sqrt(max(hidden)), variable.shape).astype(np.float32) * 2)
    return export_policy(policy, root, name, {"env_id": "Test-v0", "seed": seed, "mean_return": 12.5}).path


def export_random(
    root: Path, name: str, action_space: Any, generator: np.random.Generator, mask_size: int = 0, **settings: Any
) -> None:
    """Exports a policy with any network and random weights, to compare responses with its own graph."""
    from pgkeras.policy.export import export_policy
    from pgkeras.policy.policy import Policy
    from pgkeras.settings.groups import NetworkSettings

    network = NetworkSettings(hidden=(8,), **settings)
    policy = Policy(OBSERVATIONS, action_space, settings=network, mask_size=mask_size)
    for variable in policy.variables:
        variable.assign(generator.normal(0, 0.7, variable.shape).astype(np.float32))
    export_policy(policy, root, name, {})


def shared(tmp_path_factory: pytest.TempPathFactory, name: str, fill: Callable[[Path], None]) -> Path:
    """A directory that the first process of a parallel test run fills and the other processes reuse. Read only."""
    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"shared-{name}"
    home.mkdir(exist_ok=True)
    root = home / "root"
    with changing_alone(home):
        if not root.exists():
            unfinished = tmp_path_factory.mktemp(name)
            fill(unfinished)
            unfinished.rename(root)
    return root


@pytest.fixture(scope="session")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 1 and 2 of ``discrete``, version 1 of ``gaussian``. Read only."""

    def fill(root: Path) -> None:
        export(root, "discrete", DISCRETE_ACTIONS, seed=1)
        export(root, "discrete", DISCRETE_ACTIONS, seed=2)
        export(root, "gaussian", CONTINUOUS_ACTIONS, seed=3)

    return shared(tmp_path_factory, "policies", fill)


def shared_slow_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``slow``, an MLP 4-1024-1024-3. Read only."""

    def fill(root: Path) -> None:
        export(root, "slow", DISCRETE_ACTIONS, hidden=(1024, 1024))

    return shared(tmp_path_factory, "slow", fill)


@pytest.fixture(scope="session")
def slow_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that computes a batch of 4096 in a few tenths of a second. Read only."""
    return shared_slow_policy(tmp_path_factory)


@pytest.fixture(scope="session")
def server(policies: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of ``policies`` that all tests share. No test may stop it."""
    with running(policies, tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture
def connect(server: Server) -> Iterator[Callable[..., PolicyClient]]:
    """Creates clients of the shared server."""
    with contextlib.ExitStack() as stack:
        yield lambda policy="discrete", **options: stack.enter_context(PolicyClient(server.target, policy, **options))


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    """A bare connection to the shared server."""
    with grpc.insecure_channel(server.target) as connection:
        yield connection


@pytest.fixture
def stub(channel: grpc.Channel) -> service_pb2_grpc.PolicyServiceStub:
    """The generated stub on that connection, for requests that PolicyClient cannot send."""
    return service_pb2_grpc.PolicyServiceStub(channel)


def run_cli(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs ``python -m pgkeras`` and waits for it."""
    command = [sys.executable, "-m", "pgkeras", *arguments]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd, env=environment, check=False)


def wait_until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Polls a condition until it is true; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)
