"""The images and the pods: they set valid settings, and the server answers their probes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pgkeras_serving.settings.config import settings
from pgkeras_serving.settings.sources import variable

from benchmarks.soak.server import SHIPPED, Server
from tests.ports import free_ports
from tests.serving.conftest import wait_until

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "container" / "Dockerfile").read_text()
DEPLOYMENT = (ROOT / "deploy" / "kubernetes" / "server" / "deployment.yaml").read_text()


@pytest.mark.parametrize("text", [DOCKERFILE, DEPLOYMENT], ids=["image", "pod"])
def test_every_variable_names_a_setting(text: str) -> None:
    named = set(re.findall(r"PGKERAS_SERVE_[A-Z_]+", text))
    assert named
    assert named <= {variable(setting.name) for setting in settings()}


def test_the_image_copies_exactly_the_files_that_the_ignore_file_admits() -> None:
    copied = {name for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.M) for name in line.split()[:-1]}
    assert all((ROOT / name).exists() for name in copied)
    admitted = {
        line[1:] for line in (ROOT / "deploy/container/Dockerfile.dockerignore").read_text().split("\n") if "!" in line
    }
    assert copied == admitted


def test_the_server_answers_the_deployments_probes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    pairs = re.findall(r"(PGKERAS_SERVE_[A-Z_]+)=(\S+)", DOCKERFILE)
    pairs += re.findall(r'name: (PGKERAS_SERVE_[A-Z_]+), value: "(.+)"', DEPLOYMENT)
    here = {variable("host"): "127.0.0.1", variable("http_host"): "127.0.0.1", variable("http_port"): str(port)}
    here[variable("drain_delay_seconds")] = "0"
    for name, value in (dict(pairs) | here).items():
        monkeypatch.setenv(name, value)
    policies = tmp_path / "policies"
    policies.mkdir()
    server = Server(policies, tmp_path)
    server.start()
    try:
        (alive,) = set(re.findall(r"httpGet: \{ path: (\S+),", DEPLOYMENT))
        (service,) = re.findall(r"service: (\S+) \}", DEPLOYMENT)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{alive}") as answer:
            assert answer.status == 200  # alive, without a policy
        with grpc.insecure_channel(server.target) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            request = health_pb2.HealthCheckRequest(service=service)
            assert check(request, timeout=10).status == health_pb2.HealthCheckResponse.NOT_SERVING
            shutil.copytree(SHIPPED, policies / "cartpole-v1" / "1")
            serving = health_pb2.HealthCheckResponse.SERVING
            wait_until(lambda: check(request, timeout=10).status == serving, 30)
        assert server.stop() == 0
    finally:
        server.process.kill()


_TOOLS = str(Path(sys.executable).parent)
HADOLINT = shutil.which("hadolint", path=_TOOLS) or shutil.which("hadolint")
VALIDATE = shutil.which("kubernetes-validate", path=_TOOLS) or shutil.which("kubernetes-validate")


@pytest.mark.skipif(HADOLINT is None, reason="hadolint's wheel is not for this platform")
@pytest.mark.parametrize("name", ["Dockerfile", "train.Dockerfile"])
def test_hadolint_finds_nothing(name: str) -> None:
    done = subprocess.run(
        [str(HADOLINT), ROOT / "deploy/container" / name], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_every_kubernetes_object_is_valid() -> None:
    files = [file for file in sorted((ROOT / "deploy/kubernetes").rglob("*.yaml")) if file.name != "kustomization.yaml"]
    assert len(files) >= 5
    assert VALIDATE is not None
    done = subprocess.run([VALIDATE, "--strict", *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count(" passed for resource ") == len(files)
