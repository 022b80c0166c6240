"""The alerts and the dashboard use metrics that a server exposes, and the alerts fire when they should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from benchmarks.soak.server import SHIPPED, serving
from pgkeras.client import PolicyClient
from tests.ports import free_ports

MONITORING = Path(__file__).parents[2] / "deploy" / "monitoring"
PROMTOOL = shutil.which("promtool")
_METRIC = re.compile(r"\b(?:pgkeras|process)_[a-z_]+\b")
_LABELS = re.compile(r"(?:by|on) \(([a-z, _]+)\)|\b([a-z]+)=~?\"")


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of /metrics after a call and an episode."""
    (port,) = free_ports(1)
    with serving(SHIPPED, tmp_path_factory.mktemp("served"), "--http-port", str(port)) as server:
        with PolicyClient(server.target) as client, client.play() as session:
            client.act(np.zeros(4, np.float32))
            session.step(np.zeros(4, np.float32))
            session.step(np.zeros(4, np.float32), 1.0, True, False)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            return str(answer.read().decode())


def _expressions(file: str) -> list[str]:
    text = (MONITORING / file).read_text()
    if file.endswith(".json"):
        return [target["expr"] for panel in json.loads(text)["panels"] for target in panel["targets"]]
    return re.findall(r"expr: (?:\|\n)?((?:.+\n)(?:            .+\n)*)", text)


@pytest.mark.parametrize("file", ["alerts.yaml", "grafana.json"])
def test_every_metric_and_label_is_there(file: str, exposed: str) -> None:
    expressions = _expressions(file)
    assert len(expressions) >= 8
    samples = {line.partition("{")[0].partition(" ")[0] for line in exposed.splitlines() if not line.startswith("#")}
    labels = set(re.findall(r"[{,]([a-z_]+)=", exposed)) | {"instance", "job"}  # Prometheus adds these two
    for expression in expressions:
        metrics = set(_METRIC.findall(expression))
        assert metrics or expression.lstrip().startswith("up"), expression
        assert metrics <= samples, expression
        asked = {name for found in _LABELS.findall(expression) for part in found for name in part.split(", ") if name}
        assert asked <= labels, expression


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
@pytest.mark.parametrize(
    "arguments", [("check", "config", "prometheus.yaml"), ("test", "rules", "alerts_test.yaml")], ids=["check", "test"]
)
def test_promtool_accepts_the_configuration_and_rules(arguments: tuple[str, ...]) -> None:
    done = subprocess.run([str(PROMTOOL), *arguments], cwd=MONITORING, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
