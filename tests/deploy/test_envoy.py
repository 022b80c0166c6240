"""A rolling update of two servers behind Envoy, with the shipped configuration and under load."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import trustme

from benchmarks.soak.server import SHIPPED, Server, serving
from pgkeras.client import PolicyClient, Tls
from pgkeras.errors import ServerUnavailableError
from pgkeras.protocol.wire import encode_tensor
from pgkeras.v1 import service_pb2, service_pb2_grpc, tensors_pb2
from tests.ports import free_ports

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "envoy" / "envoy.yaml"
ENVOY = shutil.which("envoy", path=str(Path(sys.executable).parent)) or shutil.which("envoy")

pytestmark = pytest.mark.skipif(ENVOY is None, reason="Envoy's wheel is for Linux on x86-64 and for macOS")


@contextlib.contextmanager
def envoy(scratch: Path, authority: trustme.CA, *servers: Server) -> Iterator[int]:
    """Runs Envoy with the shipped configuration, adapted to local addresses; yields its port."""
    port, admin = free_ports(2)
    leaf = authority.issue_cert("localhost")
    certificate, key = scratch / "server.crt", scratch / "server.key"
    leaf.private_key_pem.write_to_path(key)
    certificate.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
    text = CONFIGURATION.read_text()
    for old, new in (
        ("0.0.0.0, port_value: 50443", f"127.0.0.1, port_value: {port}"),
        ("port_value: 9901", f"port_value: {admin}"),
        ("/etc/pgkeras/server.crt", str(certificate)),
        ("/etc/pgkeras/server.key", str(key)),
        *((f"port_value: {50051 + i}", f"port_value: {server.port}") for i, server in enumerate(servers)),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    file = scratch / "envoy.yaml"
    file.write_text(text)
    command = [str(ENVOY), "-c", str(file), "--concurrency", "1", "--use-dynamic-base-id", "-l", "warning"]
    with (scratch / "envoy.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


class Caller(threading.Thread):
    """A thread that makes calls in sequence, without client-side retries, until ``over`` is set."""

    def __init__(self, port: int, ca: bytes) -> None:
        super().__init__(daemon=True)
        self.codes: Counter[str] = Counter()
        self.versions: list[int] = []
        self.over = False
        self._port, self._ca = port, ca
        self.start()

    def run(self) -> None:
        observation = tensors_pb2.Value(tensor=encode_tensor(np.zeros(4, np.float32)))
        request = service_pb2.ActRequest(observation=observation)
        options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
        credentials = grpc.ssl_channel_credentials(self._ca)
        with grpc.secure_channel(f"localhost:{self._port}", credentials, options) as channel:
            act = service_pb2_grpc.PolicyServiceStub(channel).Act
            while not self.over:
                try:
                    self.versions.append(act(request, timeout=10).policy.version)
                    self.codes["OK"] += 1
                except grpc.RpcError as error:
                    self.codes[f"{error.code().name}: {error.details()}"] += 1
                    time.sleep(0.01)


class Player(threading.Thread):
    """A thread that plays sessions, and opens a new one when a session ends."""

    def __init__(self, client: PolicyClient) -> None:
        super().__init__(daemon=True)
        self.ended: list[str] = []
        self.versions: list[int] = []
        self.over = False
        self._client = client
        self.start()

    def run(self) -> None:
        observation = np.zeros((2, 4), np.float32)
        none, reward = np.zeros(2, np.bool_), np.zeros(2)
        while not self.over:
            try:
                with self._client.play("greedy") as session:
                    session.step(observation)
                    while not self.over:
                        session.step(observation, reward, none, none)
                        assert session.answer is not None
                        self.versions.append(session.answer.version)
            except ServerUnavailableError as error:
                self.ended.append(str(error))


def test_a_rolling_update_behind_envoy_fails_no_call(tmp_path: Path) -> None:
    roots = [tmp_path / name for name in ("first", "second")]
    for root in roots:
        shutil.copytree(SHIPPED, root / "policies" / "cartpole-v1" / "1")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(serving(root / "policies", root)) for root in roots]
        port = stack.enter_context(envoy(tmp_path, authority, *servers))
        client = stack.enter_context(PolicyClient(f"localhost:{port}", tls=Tls(ca=tmp_path / "ca.pem")))
        _until_answered(client)
        callers = [Caller(port, authority.cert_pem.bytes()) for _ in range(4)]
        players = [Player(client) for _ in range(2)]
        for server, root in zip(servers, roots, strict=True):
            time.sleep(1)
            assert server.stop() == 0
            shutil.copytree(SHIPPED, root / "policies" / "cartpole-v1" / "2")
            server.start()
            time.sleep(1)  # until Envoy has seen that it is back
        for worker in (*callers, *players):
            worker.over = True
            worker.join(20)
    codes = sum((caller.codes for caller in callers), Counter())
    assert set(codes) == {"OK"}, codes
    assert codes["OK"] > 500
    assert all(caller.versions[-1] == 2 for caller in callers)
    for player in players:
        assert player.ended  # the server asked it to connect again, and it did
        assert all("connect again" in why for why in player.ended), player.ended
        assert player.versions[-1] == 2


def _until_answered(client: PolicyClient) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            client.act(np.zeros(4, np.float32))
        except ServerUnavailableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
