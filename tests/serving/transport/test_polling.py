"""The gRPC thread that reads from connections."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from pgkeras.cli.polling import read_where_polled
from pgkeras.client import PolicyClient
from tests.serving.conftest import running

_CALLS = 300
SAID = {"GRPC_EXPERIMENTS": "-event_engine_client,-event_engine_listener"}


@pytest.mark.parametrize(
    ("platform", "version", "environment", "then"),
    [
        ("linux", "1.76.0", {}, SAID),
        ("linux", "1.85.1", {}, SAID),
        ("linux", "1.85.1", {"GRPC_EXPERIMENTS": "tcp_rcv_lowat"}, {"GRPC_EXPERIMENTS": "tcp_rcv_lowat"}),
        ("linux", "1.86.0rc1", {}, {}),
        ("linux", "2.0.0", {}, {}),
        ("darwin", "1.85.1", {}, {}),
        ("win32", "1.85.1", {}, {}),
    ],
)
def test_the_variable_is_set_only_if_unset_and_for_tested_versions(platform, version, environment, then, monkeypatch):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(metadata, "version", {"grpcio": version}.__getitem__)
    read_where_polled(environment)
    assert environment == then


def test_without_grpc_nothing_is_set(monkeypatch):
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda _: real("there-is-no-such-package"))
    environment: dict[str, str] = {}
    read_where_polled(environment)
    assert environment == {}


@pytest.mark.parametrize("is_left_to_grpc", [False, True])
def test_the_event_engine_does_not_wake_up_for_a_message(policies, tmp_path, monkeypatch, is_left_to_grpc):
    if is_left_to_grpc:
        monkeypatch.setenv("GRPC_EXPERIMENTS", "")
    else:
        monkeypatch.delenv("GRPC_EXPERIMENTS", raising=False)
    with running(policies, tmp_path) as server, PolicyClient(server.target, "discrete") as client:
        before = _wake_ups(server.process.pid)
        for _ in range(_CALLS):
            client.act(np.zeros(4, np.float32))
        woken = _wake_ups(server.process.pid) - before
        assert (woken > _CALLS) if is_left_to_grpc else (woken < _CALLS / 2)
        assert "nknown experiment" not in server.said()


def _wake_ups(process: int) -> int:
    """The number of times that the event engine's threads have gone to sleep."""
    switches = 0
    for thread in Path(f"/proc/{process}/task").iterdir():
        if (thread / "comm").read_text().strip() == "event_engine":
            status = (thread / "status").read_text()
            switches += int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])
    return switches
