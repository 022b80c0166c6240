"""The systemd unit starts the server with valid options and gives it enough time to drain."""

from __future__ import annotations

import configparser
import re
import shlex
import subprocess
import sys
from pathlib import Path

from pgkeras_serving.settings.config import ServerConfig

DEPLOY = Path(__file__).parents[2] / "deploy"
DRAINING = ServerConfig.drain_delay_seconds + ServerConfig.drain_seconds


def test_the_unit_starts_a_server() -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]  # systemd's keys are case-sensitive
    unit.read(DEPLOY / "systemd" / "pgkeras.service")
    program, *arguments = shlex.split(unit["Service"]["ExecStart"])
    assert program.endswith("/bin/pgkeras")
    command = [sys.executable, "-m", "pgkeras", *arguments, "--print-config"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "wait_for_policies = true" in done.stdout
    assert float(unit["Service"]["TimeoutStopSec"]) > DRAINING


def test_a_pod_has_time_to_drain() -> None:
    deployment = (DEPLOY / "kubernetes" / "server" / "deployment.yaml").read_text()
    found = re.search(r"^ +terminationGracePeriodSeconds: (\d+)$", deployment, re.MULTILINE)
    assert found is not None
    assert int(found[1]) > DRAINING
