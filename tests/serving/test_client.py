"""PolicyClient: accepted inputs, local checks, and errors when the server does not answer."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
from pgkeras_serving.settings.config import ServerConfig

import pgkeras
from pgkeras import errors
from pgkeras.bundle.bundle import open_bundle
from pgkeras.client import PolicyClient
from pgkeras.errors import (
    ConfigError,
    DeadlineExceededError,
    InvalidRequestError,
    PolicyServiceError,
    ServerUnavailableError,
)
from pgkeras.protocol.status import DETAILS_KEY, encode_error
from pgkeras.protocol.values import cast
from pgkeras.protocol.wire import encode_spec, encode_tensor
from pgkeras.spaces import Box
from pgkeras.spaces.spec import DistributionKind, PolicySpec
from pgkeras.v1 import policy_pb2, service_pb2, service_pb2_grpc
from tests.serving.conftest import DISCRETE_ACTIONS, OBSERVATIONS, running

ROW = [0.5, -1.0, 0.25, 2.0]


@pytest.mark.parametrize(
    "same",
    [
        ROW,
        tuple(ROW),
        np.array(ROW, np.float64),
        np.array(ROW, np.float32),
        np.array(ROW, np.float16),
        np.array(ROW, ">f4"),
    ],
)
def test_observations_of_other_dtypes_are_cast(connect, same):
    expected = connect().act(np.array(ROW, np.float32), seed=1)
    found = connect().act(same, seed=1)
    np.testing.assert_array_equal(found.distribution["probabilities"], expected.distribution["probabilities"])


def test_integers_and_strided_arrays_are_cast(connect):
    client = connect()
    whole = client.act([[1, 2, 3, 4]], "greedy")
    strided = client.act(np.arange(1, 5, dtype=np.float64)[::-1][None, ::-1], "greedy")
    assert whole.log_prob == strided.log_prob


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (["a", "b", "c", "d"], "observation"),
        ([[1.0, 2.0], [3.0]], "observation"),
        (None, "observation"),
        (np.zeros(4, np.complex64), "observation"),
        ([1e39, 0, 0, 0], "observation"),
        ([], "observation"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_an_observation_that_cannot_be_cast_is_refused(connect, bad, field):
    with pytest.raises(InvalidRequestError) as caught:
        connect().act(bad)
    assert caught.value.field == field


def test_integers_are_cast_only_when_they_fit():
    pixels = Box(np.zeros(2), np.full(2, 255.0), np.dtype(np.uint8))
    np.testing.assert_array_equal(cast([0, 255], pixels), np.array([0, 255], np.uint8))
    assert cast([0, 255], pixels).dtype == np.uint8
    for bad in ([0, 256], [-1, 0], [0.5, 1.0]):
        with pytest.raises(InvalidRequestError, match="fit dtype uint8"):
            cast(bad, pixels)


def test_errors_about_arguments_name_the_allowed_values(connect):
    client = connect()
    with pytest.raises(InvalidRequestError, match="mode: expected one of sample, greedy, got 'best'"):
        client.act(ROW, "best")
    with pytest.raises(InvalidRequestError, match=r"outputs: expected one of .*greedy_action, got 'value'"):
        client.act(ROW, outputs=["value"])
    for seed in (-1, 2**64):
        with pytest.raises(InvalidRequestError, match=r"seed: expected an integer from 0 to 2\*\*64 - 1"):
            client.act(ROW, seed=seed)
    assert client.act(ROW, seed=2**64 - 1).action.shape == ()


def test_describe_returns_the_spec_and_the_limits(connect):
    info = connect().describe()
    assert info.spec == PolicySpec(OBSERVATIONS, DISCRETE_ACTIONS, DistributionKind.CATEGORICAL)
    assert info.provenance["env_id"] == "Test-v0"
    assert info.limits.max_batch_size == ServerConfig().max_batch_size
    assert info.load_time.tzinfo is not None
    assert abs(info.load_time.timestamp() - time.time()) < 3600


def test_actions_are_read_only(connect):
    actions = connect().act(ROW)
    with pytest.raises(dataclasses.FrozenInstanceError):
        actions.version = 5
    with pytest.raises(ValueError, match="read-only"):
        actions.log_prob[...] = 0


def test_a_refused_connection_fails_immediately_with_advice():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{free.getsockname()[1]}"  # bound but not listening: connections are refused
        message = f"no policy server answers at {target}.*pgkeras serve"
        before = time.monotonic()
        with PolicyClient(target, timeout=60) as client:
            for call in (client.describe, client.policies, lambda: client.act(ROW)):
                with pytest.raises(ServerUnavailableError, match=message):
                    call()
        assert time.monotonic() < before + 30


def test_a_server_that_does_not_respond_is_a_deadline_error():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # the kernel accepts the connection, but no process reads from it
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        with PolicyClient(target, timeout=0.3) as client, pytest.raises(DeadlineExceededError, match=target):
            client.act(ROW)
        with PolicyClient(target) as client, pytest.raises(DeadlineExceededError, match=r"within 0\.2 s"):
            client.describe(timeout=0.2)


@pytest.mark.parametrize("timeout", [float("inf"), 1e10])
def test_a_timeout_may_be_infinite(server, connect, timeout):
    assert connect().act(ROW, timeout=timeout).action.shape == ()
    with connect().play() as session:
        assert session.step(ROW, timeout=timeout).shape == ()
    with PolicyClient(server.target, "discrete", timeout=timeout) as client, client.play() as session:
        assert session.step(ROW).shape == ()


def test_a_host_that_does_not_resolve_is_unavailable():
    with PolicyClient("no-such-host.invalid:1", timeout=20) as client, pytest.raises(ServerUnavailableError):
        client.describe()


def test_a_closed_client_raises(connect):
    client = connect()
    client.describe()
    client.close()
    with pytest.raises(ServerUnavailableError, match="has been closed"):
        client.act(ROW)


def test_the_client_waits_for_a_server_that_restarts(policies, tmp_path):
    with running(policies, tmp_path) as first:
        port = first.target.split(":")[1]
        with PolicyClient(first.target, "discrete", timeout=30) as client:
            before = client.act(ROW, seed=1)
            assert first.stop() == 0
            with pytest.raises(ServerUnavailableError):
                client.act(ROW, timeout=0.5)
            again = tmp_path / "again"
            again.mkdir()
            with ThreadPoolExecutor() as pool:
                waiting = pool.submit(client.act, ROW, seed=1)
                with running(policies, again, "--port", port):
                    assert waiting.result(30).action == before.action
                    with client.play() as session:
                        assert session.step(ROW).shape == ()


def test_the_client_retries_after_the_delay_that_the_server_names():
    asked = []

    class Draining(service_pb2_grpc.PolicyServiceServicer):
        def ListPolicies(self, request, context):
            asked.append(time.monotonic())
            if len(asked) == 2:
                status = encode_error(ServerUnavailableError("draining", retry_after=0.75))
                context.set_trailing_metadata(((DETAILS_KEY, status.SerializeToString()),))
                context.abort(grpc.StatusCode.UNAVAILABLE, status.message)
            return service_pb2.ListPoliciesResponse()

    server = grpc.server(ThreadPoolExecutor(1))
    service_pb2_grpc.add_PolicyServiceServicer_to_server(Draining(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with PolicyClient(f"127.0.0.1:{port}") as client:
            assert client.policies() == []
            assert client.policies() == []  # sent twice
            assert len(asked) == 3
            assert asked[2] - asked[1] >= 0.75
            asked.clear()
            client.policies()
            with pytest.raises(ServerUnavailableError, match="draining") as caught:
                client.policies(timeout=0.5)  # shorter than the delay
            assert caught.value.retry_after == 0.75
            assert len(asked) == 2
    finally:
        server.stop(0).wait()


@contextmanager
def slow_to_describe(policies, describing):
    """A client of a server that calls a function in GetPolicy. Act responds with the seconds left as its action."""
    bundle = open_bundle(policies / "discrete" / "1")

    class Slow(service_pb2_grpc.PolicyServiceServicer):
        def GetPolicy(self, request, context):
            describing()
            return service_pb2.GetPolicyResponse(policy=policy_pb2.Policy(spec=encode_spec(bundle.spec)))

        def Act(self, request, context):
            action = encode_tensor(np.array(int(context.time_remaining())))
            return service_pb2.ActResponse(action=action)

    server = grpc.server(ThreadPoolExecutor(2))
    service_pb2_grpc.add_PolicyServiceServicer_to_server(Slow(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with PolicyClient(f"127.0.0.1:{port}", timeout=60) as client:
            yield client
    finally:
        server.stop(0).wait()


def test_fetching_the_description_counts_toward_a_calls_timeout(policies, monkeypatch):
    clock = SimpleNamespace(late=0.0, monotonic=lambda: time.monotonic() + clock.late)
    monkeypatch.setattr("pgkeras.client.client.time", clock)
    with slow_to_describe(policies, lambda: setattr(clock, "late", 50.0)) as client:
        assert client.act(ROW).action <= 10
        assert client.act(ROW).action > 10


def test_waiting_for_another_threads_description_respects_the_timeout(policies):
    asked, over = threading.Event(), threading.Event()
    with slow_to_describe(policies, lambda: (asked.set(), over.wait(10))) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.act, ROW)
        asked.wait()
        with pytest.raises(DeadlineExceededError, match=r"within 0\.1 s"):
            client.act(ROW, timeout=0.1)
        over.set()
        assert first.result().action > 0


def test_every_error_of_the_service_is_a_pgkeras_error():
    assert issubclass(PolicyServiceError, pgkeras.PgkerasError)
    raised = [getattr(errors, name) for name in errors.__all__]
    assert all(issubclass(kind, pgkeras.PgkerasError) for kind in raised if isinstance(kind, type))


def test_the_client_prints_nothing(server):
    code = f"from pgkeras import PolicyClient\nwith PolicyClient({server.target!r}, 'discrete') as c: c.act({ROW!r})"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert (finished.stdout, finished.stderr) == ("", "")


def test_a_port_above_65535_is_refused():
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:116497: expected a port up to 65535, got 116497"):
        PolicyClient("127.0.0.1:116497")
    PolicyClient("127.0.0.1:65535").close()
