"""A server that drains under load, waits for its first policy, and is not blocked by its log."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from pgkeras_serving.server import PolicyServer
from pgkeras_serving.server import serving as serving_here
from pgkeras_serving.settings.config import ServerConfig

from benchmarks.soak.server import SHIPPED, publish, serving
from pgkeras.client import PolicyClient
from pgkeras.errors import PolicyNotFoundError
from pgkeras.protocol.wire import encode_tensor
from pgkeras.v1 import service_pb2, tensors_pb2
from tests.serving.conftest import running, wait_until

_ACT = "/pgkeras.v1.PolicyService/Act"


# Loading blocks until SIGTERM has closed the store.
_STOPPED_WHILE_LOADING = """
import os, signal, threading
from pgkeras_serving.policies import catalog, store
load, close, closed = catalog.Catalog._load, store.Store.close, threading.Event()
def end(self):
    close(self)
    closed.set()
def stop_and_load(self, *arguments):
    print("loading", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    closed.wait(5)
    return load(self, *arguments)
store.Store.close, catalog.Catalog._load = end, stop_and_load
from pgkeras.cli import main
main()
"""


def test_a_server_that_is_stopped_while_loading_loads_no_further_policy(policies):
    command = [sys.executable, "-c", _STOPPED_WHILE_LOADING, "serve", str(policies), "--port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, "loading\n"), ended.stderr
    assert "Traceback" not in ended.stderr


def request(policy="discrete"):
    observation = tensors_pb2.Value(tensor=encode_tensor(np.zeros(4, np.float32)))
    message = service_pb2.ActRequest(observation=observation)
    message.policy.name = policy
    return message.SerializeToString()


async def _callers(target, connections, each, stop, codes):
    """Runs closed loops of calls. Each loop ends at its first error."""

    async def call(channel):
        act = channel.unary_unary(_ACT)
        while True:
            try:
                await act(request(), timeout=20)
                codes["OK"] += 1
            except grpc.aio.AioRpcError as error:
                codes[error.code().name] += 1
                return

    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(target, options) for _ in range(connections)]
    loops = [asyncio.create_task(call(channel)) for channel in channels for _ in range(each)]
    async with asyncio.timeout(60):
        while codes["OK"] < 5 * connections * each:
            await asyncio.sleep(0.01)
        stop()
        await asyncio.gather(*loops)
    await asyncio.gather(*(channel.close() for channel in channels))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_calls_in_flight_are_answered_or_refused_as_unavailable(policies, tmp_path, number):
    codes = Counter()
    with running(policies, tmp_path, "--drain-delay-seconds", "0.1") as server:
        asyncio.run(_callers(server.target, 4, 8, lambda: server.process.send_signal(number), codes))
        assert server.process.wait(timeout=20) == 0
    assert set(codes) == {"OK", "UNAVAILABLE"}, codes
    assert codes["UNAVAILABLE"] == 32


# With this service config gRPC calls only servers that report SERVING, and retries UNAVAILABLE on the next server.
_RETRY = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": "pgkeras.v1.PolicyService"},
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.05s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}


def test_a_rolling_restart_of_two_servers_fails_no_call(tmp_path):
    roots = []
    for version in (1, 2):  # responses name the version, and so the server
        roots.append(tmp_path / str(version))
        (roots[-1] / "policies" / "cartpole-v1").mkdir(parents=True)
        publish(roots[-1] / "policies" / "cartpole-v1", version)
    with serving(roots[0] / "policies", roots[0]) as first, serving(roots[1] / "policies", roots[1]) as second:
        answered, failed = asyncio.run(_roll(first, second))
    assert not failed, failed
    assert sum(answered.values()) > 500


async def _roll(first, second):
    """Restarts one server after the other under load; counts responses by channel and version, and errors."""
    answered, failed, over = Counter(), Counter(), asyncio.Event()

    async def call(channel):
        act = channel.unary_unary(_ACT, response_deserializer=service_pb2.ActResponse.FromString)
        while not over.is_set():
            try:
                response = await act(request("cartpole-v1"), timeout=20)
                answered[channels.index(channel), response.policy.version] += 1
            except grpc.aio.AioRpcError as error:
                failed[f"{error.code().name}: {error.details()}"] += 1

    async def every_channel_uses(*versions):
        before = answered.copy()
        async with asyncio.timeout(60):
            while any(answered[i, version] <= before[i, version] for i in range(4) for version in versions):
                await asyncio.sleep(0.01)

    target = f"ipv4:{first.target},{second.target}"
    options = [("grpc.service_config", json.dumps(_RETRY)), ("grpc.use_local_subchannel_pool", 1)]
    options += [(f"grpc.{which}_reconnect_backoff_ms", 100) for which in ("initial", "min", "max")]
    channels = [grpc.aio.insecure_channel(target, options) for _ in range(4)]
    loops = [asyncio.create_task(call(channel)) for channel in channels for _ in range(4)]
    for server in (first, second):
        await every_channel_uses(1, 2)
        assert await asyncio.to_thread(server.stop) == 0
        await asyncio.to_thread(server.start)  # at the same address
    await every_channel_uses(1, 2)
    over.set()
    await asyncio.gather(*loops)
    await asyncio.gather(*(channel.close() for channel in channels))
    return answered, failed


def test_calls_are_answered_during_the_drain_delay(policies, tmp_path):
    with running(policies, tmp_path, "--drain-delay-seconds", "2") as server:
        with grpc.insecure_channel(server.target) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            assert check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
            server.process.send_signal(signal.SIGTERM)
            not_serving = health_pb2.HealthCheckResponse.NOT_SERVING
            wait_until(lambda: check(health_pb2.HealthCheckRequest()).status == not_serving, 1)
        with PolicyClient(server.target, "discrete") as client:  # on a new connection
            client.act(np.zeros(4, np.float32))
        assert server.process.wait(timeout=20) == 0


def test_an_open_reflection_stream_does_not_delay_shutdown(policies, tmp_path):
    options = ("--drain-seconds", "300")
    with running(policies, tmp_path, *options) as server, grpc.insecure_channel(server.target) as channel:
        over = threading.Event()

        def questions():
            yield reflection_pb2.ServerReflectionRequest(list_services="")
            over.wait()

        answers = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(questions())
        assert {service.name for service in next(answers).list_services_response.service} >= {"grpc.health.v1.Health"}
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=60) == 0
        assert list(answers) == []
        over.set()


def test_a_cancelled_reflection_stream_logs_nothing():
    errors = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        config = ServerConfig(SHIPPED, port=0, drain_delay_seconds=0.0)
        async with serving_here(config) as server, grpc.aio.insecure_channel(server.target) as channel:
            call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
            await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
            assert (await call.read()).list_services_response.service
            call.cancel()
            await channel.unary_unary(_ACT)(request("cartpole-v1"))  # afterwards the server knows of the cancellation
        gc.collect()

    asyncio.run(main())
    assert errors == []


def test_health_watchers_are_notified_and_do_not_delay_shutdown():
    statuses = health_pb2.HealthCheckResponse

    async def main():
        server = PolicyServer(ServerConfig(SHIPPED, port=0, drain_delay_seconds=1.0, drain_seconds=300.0))
        await server.start()
        async with grpc.aio.insecure_channel(server.target) as channel, asyncio.timeout(60):
            watch = health_pb2_grpc.HealthStub(channel).Watch
            first = watch(health_pb2.HealthCheckRequest())
            assert (await first.read()).status == statuses.SERVING
            draining = asyncio.create_task(server.drain())
            assert (await first.read()).status == statuses.NOT_SERVING
            await asyncio.sleep(0.3)
            second = watch(health_pb2.HealthCheckRequest())  # started during the drain delay
            assert (await second.read()).status == statuses.NOT_SERVING
            await draining
            for call in (first, second):
                assert await call.read() is grpc.aio.EOF
                assert await call.code() is grpc.StatusCode.OK

    asyncio.run(main())


def test_a_call_that_a_draining_server_refuses_is_in_the_access_log(caplog):
    async def main():
        config = ServerConfig(SHIPPED, port=0, drain_delay_seconds=0.0, log_access=True)
        async with serving_here(config) as server, grpc.aio.insecure_channel(server.target) as channel:
            server._servicer.draining = True  # the state that drain() sets
            with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
                await channel.unary_unary(_ACT)(request("cartpole-v1"))

    with caplog.at_level("INFO", logger="pgkeras.access"):
        asyncio.run(main())
    (fields,) = [record.fields for record in caplog.records if record.name == "pgkeras.access"]
    assert (fields["method"], fields["code"], fields["policy"]) == ("Act", "UNAVAILABLE", "cartpole-v1")
    assert "the server is stopping" in fields["reason"]


def test_refused_calls_and_refused_sessions_both_postpone_shutdown():
    async def main():
        async with (
            serving_here(ServerConfig(SHIPPED, port=0, drain_delay_seconds=0.0)) as server,
            grpc.aio.insecure_channel(server.target) as channel,
        ):
            # The state that drain() sets. It then waits until nothing has been refused for a moment.
            server._servicer.draining = True
            server._sessions.end()
            for method in (_ACT, "/pgkeras.v1.PolicyService/Play"):
                before = time.monotonic()
                with pytest.raises(grpc.aio.AioRpcError, match="the server is stopping"):
                    await channel.unary_unary(method)(request("cartpole-v1"))  # Play: a session of one message
                assert server._servicer.last_refused >= before

    asyncio.run(main())


def test_the_first_policy_may_come_after_the_server(policies, tmp_path):
    root = tmp_path / "models"
    root.mkdir()
    options = ("--wait-for-policies", "--poll-seconds", "0.05")
    with running(root, tmp_path, *options) as server, grpc.insecure_channel(server.target) as channel:
        assert "serving no policy yet" in server.ready
        check = health_pb2_grpc.HealthStub(channel).Check
        assert check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        shutil.copytree(policies / "gaussian", root / "gaussian")
        is_serving = health_pb2.HealthCheckResponse.SERVING
        wait_until(lambda: check(health_pb2.HealthCheckRequest()).status == is_serving, 20)
        with PolicyClient(server.target) as client:
            client.act(np.zeros(4, np.float32))
        assert "Traceback" not in server.said()


def test_error_messages_stay_short_with_many_policies(policies, tmp_path):
    root = tmp_path / "models"
    for i in range(40):
        shutil.copytree(policies / "gaussian", root / f"{'long-' * 20}name-{i}")
    with running(root, tmp_path) as server, PolicyClient(server.target, "long-name-7") as client:
        with pytest.raises(PolicyNotFoundError, match=r"there is: .* and 35 more") as caught:
            client.act(np.zeros(4, np.float32))
        assert len(str(caught.value)) < 1500


def test_an_unread_log_delays_no_call(policies, tmp_path):
    port_file = tmp_path / "port"
    command = [sys.executable, "-m", "pgkeras", "serve", str(policies), "--port", "0", "--port-file", str(port_file)]
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen([*command, "--log-access"], stdout=subprocess.PIPE, stderr=writing, text=True)
    os.close(writing)
    try:
        assert process.stdout is not None
        assert process.stdout.readline()
        with PolicyClient(f"127.0.0.1:{int(port_file.read_text())}", "discrete", timeout=5) as client:
            for _ in range(300):  # about 60 kB of log for a pipe of 4 kB
                client.act(np.zeros(4, np.float32))
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        os.close(reading)


def test_health_lists_every_service(policies, tmp_path):
    with running(policies, tmp_path) as server, grpc.insecure_channel(server.target) as channel:
        answer = channel.unary_unary("/grpc.health.v1.Health/List")(b"", timeout=60)
    # HealthListResponse: a map of names to HealthCheckResponse, whose field 1 is 1 for SERVING.
    for name in (b"", b"pgkeras.v1.PolicyService", b"policies/discrete", b"policies/gaussian"):
        entry = b"\x0a" + bytes([len(name)]) + name + b"\x12\x02\x08\x01"
        assert b"\x0a" + bytes([len(entry)]) + entry in answer
