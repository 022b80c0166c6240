"""Limits on requests and connections, and the Unix-domain socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import stat
import threading

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pgkeras_serving.pages.web import Web
from pgkeras_serving.process import event_loop
from pgkeras_serving.server import PolicyServer
from pgkeras_serving.settings.config import ServerConfig, settings
from pgkeras_serving.telemetry.snapshot import Snapshot
from pgkeras_serving.transport.grpc_server import GrpcServer
from pgkeras_serving.transport.listener import reserve, socket_file
from pgkeras_serving.workers.relay import Relay

from pgkeras.client import PolicyClient
from pgkeras.errors import ConfigError, InvalidRequestError, ServerUnavailableError
from pgkeras.v1 import service_pb2, service_pb2_grpc
from tests.serving.conftest import run_cli, running, wait_until

ONE = np.zeros(4, np.float32)


def test_grpc_accepts_the_largest_value_of_each_limit():
    grpc_limits = ("max_message_bytes", "max_header_bytes", "max_connections", "max_streams", "max_pending_calls")
    largest = {setting.name: setting.metadata["maximum"] for setting in settings() if setting.name in grpc_limits}
    config = ServerConfig(port=0, **largest)

    async def main():
        server = GrpcServer(config, lambda _: None, [])
        await server.start()
        await server.stop(0.0)

    asyncio.run(main())
    for name, value in largest.items():
        with pytest.raises(ConfigError, match=f"{name}: expected .* got {value + 1}"):
            ServerConfig(**{name: value + 1})


@pytest.mark.parametrize("host", [".robot", "robot..", f"{'r' * 64}.local"])
def test_an_invalid_host_name_is_refused(host):
    async def main():
        with pytest.raises(ConfigError, match=r"cannot listen on .*: this is not a valid host name"):
            PolicyServer(ServerConfig(host=host))
        with pytest.raises(ConfigError, match=r"cannot listen on .*: this is not a valid host name"):
            reserve(ServerConfig(host=host))
        with pytest.raises(ConfigError, match=r"cannot listen on .*: this is not a valid host name"):
            await Web(ServerConfig(http_host=host, http_port=0), None, Snapshot).start()

    asyncio.run(main())


def test_a_socket_path_that_is_too_long_is_an_error(tmp_path):
    async def main():
        with socket_file(f"unix:{tmp_path / ('s' * 110)}", 0o600) as path:
            await Relay(list).start(path)

    with asyncio.Runner(loop_factory=event_loop) as runner, pytest.raises(ConfigError, match="path too long"):
        runner.run(main())


@pytest.fixture(scope="module")
def tight(policies, tmp_path_factory):
    """A server with low limits."""
    scratch = tmp_path_factory.mktemp("tight")
    file = scratch / "server.toml"
    file.write_text(
        "max_connections = 3\nmax_header_bytes = 2048\nmax_streams = 2\nmax_sessions = 5\nmax_queued = 100\n"
        "max_queue_seconds = 2.5\nsession_idle_seconds = 60\nmin_ping_seconds = 0.5\n[policies.gaussian]\n"
        "max_batch_size = 3\nmax_queued = 7\n"
    )
    with running(policies, scratch, "--config", str(file)) as server:
        yield server


def test_the_limits_are_published_for_every_policy(tight):
    with PolicyClient(tight.target, "discrete") as client:
        limits = client.describe().limits
    assert (limits.max_batch_size, limits.max_queued, limits.max_queue_seconds) == (4096, 100, 2.5)
    assert (limits.max_sessions, limits.session_idle_seconds) == (5, 60.0)
    assert (limits.max_streams_per_connection, limits.max_header_bytes, limits.min_ping_seconds) == (2, 2048, 0.5)
    assert (limits.max_connections, limits.keepalive_seconds) == (3, 60.0)
    with PolicyClient(tight.target, "gaussian") as client:
        limits = client.describe().limits
        assert (limits.max_batch_size, limits.max_queued, limits.max_sessions) == (3, 7, 5)
        assert client.act(np.zeros((3, 4), np.float32)).action.shape == (3, 2, 1)
        with pytest.raises(InvalidRequestError, match="at most 3 observations"):
            client.act(np.zeros((4, 4), np.float32))


def test_large_metadata_is_refused_and_the_connection_goes_on(tight):
    with grpc.insecure_channel(tight.target) as channel:
        get = service_pb2_grpc.PolicyServiceStub(channel).GetPolicy
        request = service_pb2.GetPolicyRequest()
        request.policy.name = "discrete"
        assert get(request, timeout=10, metadata=(("x", "y" * 1000),)).policy.name == "discrete"
        for size in (2500, 10_000):
            with pytest.raises(grpc.RpcError) as caught:
                get(request, timeout=10, metadata=(("x", "y" * size),))
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert get(request, timeout=10).policy.name == "discrete"


def test_connections_beyond_the_limit_are_closed_and_let_in_when_there_is_room(policies, tmp_path):
    with running(policies, tmp_path, "--max-connections", "3") as server:
        where = server.target.split(":")
        with socket.create_connection(where) as first, socket.create_connection(where) as second:
            assert first.recv(9)[:4]  # the server's SETTINGS frame: it has accepted the connection
            assert second.recv(9)[:4]
            with PolicyClient(server.target, "discrete") as client:
                client.act(ONE)
                fourth = socket.create_connection(where, timeout=10)
                with fourth, contextlib.suppress(ConnectionResetError):
                    assert fourth.recv(9) == b""
                client.act(ONE)
        with PolicyClient(server.target, "discrete", timeout=20) as client:
            wait_until(lambda: _answers(client))


def test_calls_beyond_the_stream_limit_of_a_connection_wait(tight):
    with PolicyClient(tight.target, "discrete", timeout=20) as client:
        sessions = [client.play() for _ in range(2)]
        for session in sessions:
            session.step(ONE)
        answers = []
        waiting = threading.Thread(target=lambda: answers.append(client.act(ONE)))
        waiting.start()
        waiting.join(0.3)
        assert not answers
        sessions[0].close()
        waiting.join(20)
        assert len(answers) == 1
        sessions[1].close()


def test_a_unix_socket_serves_and_only_its_owner_may_connect(policies, tmp_path):
    path = tmp_path / "socket"
    with running(policies / "discrete", tmp_path, "--listen", f"unix:{path}") as server:
        assert server.ready.endswith(f"on unix:{path}")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with PolicyClient(f"unix:{path}", token="not-asked-for") as client, client.play() as session:
            assert session.step(ONE).shape == ()
            assert client.act(ONE).action.shape == ()
        assert run_cli("info", f"unix:{path}").returncode == 0
        taken = run_cli("serve", str(policies), "--listen", f"unix:{path}")
        assert taken.returncode == 1
        assert "another server listens there" in taken.stderr
        with grpc.insecure_channel(f"unix:{path}") as channel:  # the first server still has its socket
            health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
            assert health.status == health_pb2.HealthCheckResponse.SERVING
        assert server.stop() == 0
    with pytest.raises(ServerUnavailableError):
        PolicyClient(f"unix:{path}").act(ONE)


def test_the_socket_of_a_killed_server_is_replaced(policies, tmp_path):
    path = tmp_path / "socket"
    options = ("--listen", f"unix:{path}", "--socket-mode", "660")
    with running(policies / "discrete", tmp_path, *options) as server:
        server.process.kill()
        server.process.wait()
    assert stat.S_ISSOCK(path.stat().st_mode)
    with running(policies / "discrete", tmp_path, *options), PolicyClient(f"unix:{path}") as client:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert client.act(ONE).action.shape == ()


def test_a_file_that_is_not_a_socket_is_not_replaced(policies, tmp_path):
    path = tmp_path / "notes"
    path.write_text("precious")
    for where, message in ((path, "is not a socket"), (tmp_path / "no" / "socket", "there is no directory")):
        finished = run_cli("serve", str(policies), "--listen", f"unix:{where}")
        assert finished.returncode == 1
        assert message in finished.stderr
        assert "Traceback" not in finished.stderr
    assert path.read_text() == "precious"
    long = run_cli("serve", str(policies), "--listen", f"unix:{tmp_path / ('x' * 200)}")
    assert long.returncode == 1
    assert "cannot listen on unix:" in long.stderr


def _answers(client):
    try:
        client.act(ONE)
    except ServerUnavailableError:
        return False
    return True
