"""The life cycle of a server process: start, health, drain and exit."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from pgkeras_serving.settings.config import ServerConfig

from pgkeras.client import PolicyClient
from pgkeras.errors import (
    ConfigError,
    DeadlineExceededError,
    InvalidRequestError,
    ServerBusyError,
    ServerUnavailableError,
)
from pgkeras.protocol.wire import encode_tensor
from pgkeras.v1 import service_pb2, service_pb2_grpc
from tests.serving.conftest import run_cli, running, wait_until
from tests.serving.telemetry.test_metrics import page_of, samples

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
ONE = np.zeros(4, np.float32)
BATCH = np.zeros((4096, 4), np.float32)


def test_the_ready_line_and_the_port_file(server):
    assert server.ready == (
        "pgkeras: serving discrete (version 1, litert), discrete (version 2, litert), "
        f"gaussian (version 1, litert) on {server.target}"
    )
    assert [path.name for path in server.log.parent.iterdir() if "port" in path.name] == ["port"]


def test_it_listens_only_on_loopback(server):
    port = int(server.target.split(":")[1])
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    listening = [row[1].split(":") for row in rows if row[3] == "0A"]  # state LISTEN
    addresses = [address for address, number in listening if int(number, 16) == port]
    assert addresses in (["0100007F"], ["0000000000000000FFFF00000100007F"])  # 127.0.0.1, plain or mapped to IPv6


@pytest.mark.parametrize("service", ["", "pgkeras.v1.PolicyService"])
def test_health_is_serving_once_ready(channel, service):
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
    assert answer.status == SERVING


def test_health_knows_no_other_service(channel):
    with pytest.raises(grpc.RpcError) as caught:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="other"), timeout=10)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_describes_the_service(channel):
    request = reflection_pb2.ServerReflectionRequest
    questions = [request(list_services=""), request(file_containing_symbol="pgkeras.v1.PolicyService")]
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    services, file = list(stub.ServerReflectionInfo(iter(questions), timeout=10))
    names = {service.name for service in services.list_services_response.service}
    assert {"pgkeras.v1.PolicyService", "grpc.health.v1.Health"} <= names
    descriptor = descriptor_pb2.FileDescriptorProto.FromString(file.file_descriptor_response.file_descriptor_proto[0])
    methods = [method.name for method in descriptor.service[0].method]
    assert methods == ["Act", "Play", "GetPolicy", "ListPolicies"]


def test_sigterm_drains_calls_in_flight_and_exits_0(slow_policy, tmp_path):
    options = ("--drain-seconds", "60", "--drain-delay-seconds", "0")
    with running(slow_policy, tmp_path, *options) as server, PolicyClient(server.target) as client:
        client.describe()
        statuses = []
        watch = health_pb2_grpc.HealthStub(client._channel).Watch(health_pb2.HealthCheckRequest())
        watching = threading.Thread(target=lambda: _collect(watch, statuses))
        watching.start()
        answers, failures = [], []
        calls = [threading.Thread(target=_act, args=(client, answers, failures)) for _ in range(6)]
        for call in calls:
            call.start()
        wait_until(lambda: bool(answers or failures))  # all take equally long, so the others are in flight
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: statuses == [SERVING, NOT_SERVING])
        assert len(answers) < 6, "NOT_SERVING is reported before the last call is done"
        with pytest.raises(ServerUnavailableError):
            PolicyClient(server.target).act(ONE)
        for call in calls:
            call.join(60)
        watching.join(20)
        assert not failures
        assert len(answers) == 6
        assert server.process.wait(20) == 0


def test_drain_is_bounded(slow_policy, tmp_path):
    request = service_pb2.ActRequest(observation={"tensor": encode_tensor(BATCH)})
    with (
        running(
            slow_policy, tmp_path, "--max-engines", "1", "--drain-delay-seconds", "0", "--drain-seconds", "0"
        ) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub = service_pb2_grpc.PolicyServiceStub(channel)  # a PolicyClient would wait for a restart
        calls = [stub.Act.future(request, timeout=120) for _ in range(15)]
        wait_until(lambda: any(call.done() for call in calls))
        assert server.stop() == 0
        codes = {call.code() for call in calls}
    assert grpc.StatusCode.UNAVAILABLE in codes
    assert codes <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.OK}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_stops_despite_an_open_health_watch(policies, tmp_path, number):
    with running(policies, tmp_path) as server, grpc.insecure_channel(server.target) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == SERVING
        server.process.send_signal(number)
        assert next(watch).status == NOT_SERVING
        assert server.process.wait(20) == 0
        assert "Traceback" not in server.said()


def test_a_port_in_use_is_a_clear_error(server, policies):
    port = server.target.split(":")[1]
    finished = run_cli("serve", str(policies), "--port", port)
    assert finished.returncode == 1
    assert f"Error: cannot listen on 127.0.0.1:{port}: Address already in use; choose another --port" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_an_unknown_host_is_a_clear_error(policies):
    finished = run_cli("serve", str(policies), "--host", "256.0.0.1", "--port", "0")
    assert finished.returncode == 1
    assert "Error: cannot listen on 256.0.0.1:0:" in finished.stderr


def test_an_unwritable_port_file_is_a_clear_error(policies, tmp_path):
    finished = run_cli("serve", str(policies), "--port", "0", "--port-file", str(tmp_path / "no" / "port"))
    assert finished.returncode == 1
    assert "Error: port_file: cannot write" in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize(
    ("name", "value"), [("port", 65536), ("port", -1), ("max_batch_size", 0), ("drain_seconds", float("nan"))]
)
def test_a_setting_out_of_range_is_named(policies, name, value):
    with pytest.raises(ConfigError, match=f"{name}: expected a (whole|finite) number .*, got {value}"):
        ServerConfig(policies, **{name: value})


def test_a_message_beyond_the_limit_is_refused_and_the_limit_is_published(policies, tmp_path):
    options = ("--max-message-bytes", "20000", "--max-batch-size", "100000")
    with running(policies / "discrete", tmp_path, *options) as server, PolicyClient(server.target) as client:
        assert client.describe().limits.max_receive_message_bytes == 20000
        with pytest.raises(InvalidRequestError, match="larger than max"):
            client.act(np.zeros((2000, 4), np.float32))
        assert client.act(ONE).action.shape == ()


def test_a_response_beyond_the_limit_is_refused_and_leaves_the_session_unchanged(policies, tmp_path):
    many, outputs = np.zeros((1000, 4), np.float32), ("log_prob", "entropy", "distribution")
    options = ("--max-message-bytes", "20000", "--http-port", "0")
    with running(policies / "discrete", tmp_path, *options) as server, PolicyClient(server.target) as client:
        too_large = "outputs: expected what is answered with at most 20000 bytes (ask for fewer observations or outputs"
        with pytest.raises(InvalidRequestError, match=re.escape(too_large)):
            client.act(many)
        with client.play(seed=1, outputs=outputs) as session, client.play(seed=1, outputs=outputs) as other:
            with pytest.raises(InvalidRequestError, match=re.escape(too_large)):
                session.step(many)
            assert not session.is_over
            assert [session.step(ONE), session.step(ONE, 1.0, False, False)] == [
                other.step(ONE),
                other.step(ONE, 1.0, False, False),
            ]
        counts = samples(page_of(server))
        for method in ("Act", "PlayMessage"):
            labels = (("code", "INVALID_ARGUMENT"), ("method", method))
            assert counts["pgkeras_requests_total", *labels] == 1
        assert ("pgkeras_requests_total", ("code", "OK"), ("method", "Act")) not in counts
        assert "Traceback" not in server.said()


def test_a_description_beyond_the_limit_is_refused_with_advice(policies, tmp_path):
    root = tmp_path / "policies"
    for i in range(40):
        shutil.copytree(policies / "gaussian", root / f"policy-{i}")
    with running(root, tmp_path, "--max-message-bytes", "4096") as server:
        with PolicyClient(server.target, "policy-7") as client:
            assert client.describe().name == "policy-7"
            advice = "policies: expected what is answered with at most 4096 bytes (describe one at a time, or"
            with pytest.raises(InvalidRequestError, match=re.escape(advice)):
                client.policies()
        assert "Traceback" not in server.said()


def test_frequent_keepalive_pings_are_accepted(policies, tmp_path):
    options = [("grpc.keepalive_time_ms", 100), ("grpc.keepalive_permit_without_calls", 1)]
    options += [("grpc.http2.max_pings_without_data", 0)]
    with running(policies, tmp_path, "--min-ping-seconds", "0.05") as server:
        with grpc.insecure_channel(server.target, options) as channel:
            states = []
            channel.subscribe(states.append)
            check = health_pb2_grpc.HealthStub(channel).Check
            check(health_pb2.HealthCheckRequest(), timeout=10)
            time.sleep(1.0)  # 10 pings; 3 pings that come too early would end the connection
            assert check(health_pb2.HealthCheckRequest(), timeout=10).status == SERVING
        assert grpc.ChannelConnectivity.TRANSIENT_FAILURE not in states
        assert states.count(grpc.ChannelConnectivity.READY) == 1


def test_an_expired_request_leaves_the_queue(slow_policy, tmp_path):
    with running(slow_policy, tmp_path, "--max-queued", "4096") as server, PolicyClient(server.target) as client:
        answers, failures = [], []
        running_call = threading.Thread(target=_act, args=(client, answers, failures))
        running_call.start()
        refused = 0
        for _ in range(50):
            with pytest.raises((DeadlineExceededError, ServerBusyError)) as raised:
                client.act(BATCH, timeout=0.005)
            refused += raised.type is ServerBusyError
        running_call.join(60)
        assert not failures
        # If they stayed, nearly all would be refused because of the full queue. A call may arrive before the
        # cancellation of the one before it.
        assert refused < 10
        assert client.act(BATCH, timeout=60).action.shape == (4096,)


BLOCK = "import sys\nfor name in ('tensorflow', 'keras', 'gymnasium', 'matplotlib', 'rich'): sys.modules[name] = None"


def test_serving_and_acting_need_no_tensorflow(policies, tmp_path):
    with running(policies, tmp_path, prelude=BLOCK) as server:
        client = (
            f"{BLOCK}\nimport json\nfrom pgkeras.client import PolicyClient\n"
            f"with PolicyClient({server.target!r}, 'discrete') as client:\n"
            "    print(json.dumps(client.act([0.0, 0.1, 0.2, 0.3], seed=1).distribution['probabilities'].tolist()))"
        )
        command = [sys.executable, "-c", client]
        out = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        assert sum(json.loads(out)) == pytest.approx(1.0, abs=1e-5)
        assert server.stop() == 0


def test_without_the_serve_extra_the_error_names_the_pip_command(policies, tmp_path):
    for missing in ("grpc_health", "ai_edge_litert"):
        prelude = f"import sys\nfor name in ('tensorflow', {missing!r}): sys.modules[name] = None"
        code = f"{prelude}\nimport sys\nsys.argv = ['pgkeras', 'serve', {str(policies)!r}, '--port', '0']\n"
        command = [sys.executable, "-c", f"{code}from pgkeras.cli import main\nmain()"]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert finished.returncode == 1
        assert 'pip install "pgkeras[serve]"' in finished.stderr
        assert re.search("^Error: ", finished.stderr, re.MULTILINE)


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("pgkeras.client", ["tensorflow", "keras", "gymnasium", "ai_edge_litert", "pgkeras.bundle", "pgkeras.engines"]),
        (
            "pgkeras_serving.server",
            ["tensorflow", "keras", "gymnasium", "pgkeras.policy.policy", "pgkeras.runs.training"],
        ),
        ("pgkeras.cli.act", ["tensorflow", "ai_edge_litert", "grpc_health.v1"]),
        ("pgkeras.cli.serve", ["tensorflow", "ai_edge_litert", "grpc"]),
    ],
)
def test_imports_are_light(module, forbidden):
    code = f"import sys, {module}\nprint([name for name in {forbidden!r} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
    assert out.strip() == "[]"


def _collect(watch, statuses):
    try:
        for message in watch:
            statuses.append(message.status)
    except grpc.RpcError:
        return


def _act(client, answers, failures):
    try:
        answers.append(client.act(BATCH, timeout=120))
    except Exception as error:
        failures.append(error)
