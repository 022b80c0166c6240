"""No proxy stands between a machine and itself."""

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
