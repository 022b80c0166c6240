"""Calls to the own machine bypass proxies."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.serving.conftest import ROOT


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy"])
def test_a_client_calls_its_own_machine_directly(server, variable):
    environment = {**os.environ, variable: "http://127.0.0.1:9", "no_proxy": ""}
    command = [sys.executable, "-m", "pgkeras", "info", server.target]
    asked = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert asked.returncode == 0, asked.stderr
    assert "discrete" in asked.stdout


def test_an_error_names_the_proxy_in_use():
    environment = {**os.environ, "https_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    code = "from pgkeras import PolicyClient; PolicyClient('192.0.2.1:50051', timeout=20).describe()"
    command = [sys.executable, "-c", code]
    asked = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert asked.returncode == 1
    assert "at 192.0.2.1:50051 (through the proxy http://127.0.0.1:9 that https_proxy names" in asked.stderr
