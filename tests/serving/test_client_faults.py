"""PolicyClient and PlaySession when the server or the network misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf import duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from benchmarks.soak.server import SHIPPED
from pgkeras.client import PolicyClient, connection
from pgkeras.errors import DeadlineExceededError, ServerFailedError, ServerUnavailableError
from pgkeras.protocol.status import DETAILS_KEY
from pgkeras.protocol.wire import encode_spec, encode_tensor
from pgkeras.spaces.spec import DistributionKind, PolicySpec
from pgkeras.v1 import policy_pb2, service_pb2, service_pb2_grpc
from tests.serving.conftest import DISCRETE_ACTIONS, OBSERVATIONS, running, wait_until

ROW = [0.5, -1.0, 0.25, 2.0]


class Scripted(service_pb2_grpc.PolicyServiceServicer):
    """Answers the first ``ListPolicies`` call and refuses the later ones with ``refusal``."""

    def __init__(self) -> None:
        self.lists = 0
        self.refusal = status_pb2.Status()
        self.silent_after = float("inf")
        self.over = threading.Event()
        self.answer = service_pb2.PlayResponse()

    def GetPolicy(self, request, context):
        spec = encode_spec(PolicySpec(OBSERVATIONS, DISCRETE_ACTIONS, DistributionKind.CATEGORICAL))
        return service_pb2.GetPolicyResponse(policy=policy_pb2.Policy(spec=spec))

    def ListPolicies(self, request, context):
        self.lists += 1
        if self.lists > self.silent_after:
            self.over.wait(30)
        if self.lists > 1:
            context.set_trailing_metadata(((DETAILS_KEY, self.refusal.SerializeToString()),))
            context.abort(grpc.StatusCode.UNAVAILABLE, self.refusal.message)
        return service_pb2.ListPoliciesResponse()

    def Play(self, requests, context):
        for request in requests:
            self.answer.id = request.id
            yield self.answer


@contextlib.contextmanager
def scripted() -> Iterator[tuple[Scripted, PolicyClient]]:
    servicer = Scripted()
    server = grpc.server(ThreadPoolExecutor(4))
    service_pb2_grpc.add_PolicyServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with PolicyClient(f"127.0.0.1:{port}", timeout=60) as client:
            yield servicer, client
    finally:
        servicer.over.set()
        server.stop(0).wait()


def draining(**delay: int) -> status_pb2.Status:
    status = status_pb2.Status(code=code_pb2.UNAVAILABLE, message="draining")
    status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(**delay)))
    return status


@pytest.mark.parametrize("delay", [{}, {"nanos": 1}, {"seconds": -1}, {"nanos": -5}])
def test_a_retry_delay_of_zero_or_less_does_not_shorten_the_backoff(delay):
    with scripted() as (server, client):
        server.refusal = draining(**delay)
        client.policies()
        with pytest.raises(ServerUnavailableError, match="draining") as caught:
            client.policies(timeout=0.5)
        assert caught.value.retry_after in (None, 1e-9)
        # At most 3 pauses fit into 0.5 s: they last at least 0.05, 0.1 and 0.2 s.
        assert 1 < server.lists - 1 <= 4


@pytest.mark.parametrize("seconds", [10**10, 2**63 - 1])
def test_a_retry_delay_beyond_the_deadline_fails_the_call_immediately(seconds):
    with scripted() as (server, client):
        server.refusal = draining(seconds=seconds)
        client.policies()
        with pytest.raises(ServerUnavailableError, match="draining") as caught:
            client.policies()
        assert caught.value.retry_after == 365 * 24 * 3600
        assert server.lists == 2


def test_a_deadline_during_a_retry_raises_the_error_that_caused_the_retry():
    with scripted() as (server, client):
        server.refusal, server.silent_after = draining(), 2
        client.policies()
        with pytest.raises(ServerUnavailableError, match="draining"):
            client.policies(timeout=0.5)
        assert server.lists == 3


def test_an_invalid_response_to_a_step_leaves_the_session_open():
    with scripted() as (server, client), client.play() as session:
        server.answer.act.action.CopyFrom(encode_tensor(np.array([5, 6])))
        with pytest.raises(ServerFailedError, match=r"answered one observation with an array of shape \[2\]"):
            session.step(ROW)
        server.answer.Clear()
        with pytest.raises(ServerFailedError, match="neither actions nor an error; is the server newer than this"):
            session.step(ROW)
        server.answer.act.action.CopyFrom(encode_tensor(np.array([6])))
        assert session.step(ROW) == 6
        assert not session.is_over


def test_repr_of_clients_and_sessions_omits_the_token():
    with PolicyClient("127.0.0.1:1", "cartpole", 3, token="secret") as client:
        assert repr(client) == "<PolicyClient of cartpole version 3 at 127.0.0.1:1>"
    with scripted() as (server, client):
        assert repr(client) == f"<PolicyClient of the policy at {client.target}>"
        server.answer.act.action.CopyFrom(encode_tensor(np.array([6])))
        with client.play() as session:
            session.step(ROW)
            assert repr(session) == f"<PlaySession at {client.target}, step 1, open>"
        assert repr(session) == f"<PlaySession at {client.target}, step 1, over>"


class BlackHole:
    """A proxy. ``swallow`` drops all data of the open connections without closing them."""

    def __init__(self, target: str) -> None:
        self._host, _, self._port = target.rpartition(":")
        self._living: set[object] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.closed_by_client = 0

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, family=socket.AF_INET)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def swallow(self) -> None:
        self._living.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection = object()
        self._living.add(connection)
        self.connections += 1
        there_reader, there_writer = await asyncio.open_connection(self._host, self._port)

        async def forward(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    if connection in self._living:
                        sink.write(data)
                        await sink.drain()
            if connection in self._living:
                sink.close()

        async def from_client() -> None:
            await forward(reader, there_writer)
            self.closed_by_client += 1

        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(from_client(), forward(there_reader, writer))


@contextlib.contextmanager
def black_hole(target: str) -> Iterator[tuple[str, BlackHole]]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    proxy = BlackHole(target)
    try:
        yield asyncio.run_coroutine_threadsafe(proxy.start(), loop).result(10), proxy
    finally:
        asyncio.run_coroutine_threadsafe(proxy.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@pytest.mark.parametrize("detected_by", ["keepalive", "ping after a deadline"])
def test_a_silently_dead_connection_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, detected_by: str):
    shortened = ["grpc.keepalive_timeout_ms", "grpc.http2.ping_timeout_ms"]
    if detected_by == "keepalive":
        shortened.append("grpc.keepalive_time_ms")
    options = [(name, value // 20 if name in shortened else value) for name, value in connection._OPTIONS]
    monkeypatch.setattr(connection, "_OPTIONS", tuple(options))
    with (
        running(SHIPPED, tmp_path, "--min-ping-seconds", "0.5") as server,
        black_hole(server.target) as (target, proxy),
        PolicyClient(target) as client,
        PolicyClient(target) as other,
        client.play() as session,
    ):
        session.step(ROW)
        if detected_by == "keepalive":
            time.sleep(1)  # until gRPC's bandwidth pings are answered, because they would also detect it
            proxy.swallow()
            wait_until(lambda: proxy.closed_by_client == 1, 30)
        else:
            proxy.swallow()
            with pytest.raises(DeadlineExceededError):
                client.act(ROW, timeout=0.2)
        assert not session.is_over
        with pytest.raises(ServerUnavailableError):
            session.step(ROW, 1.0, False, False, timeout=120)
        assert session.is_over
        assert client.act(ROW, timeout=120).action.shape == ()
        assert other.act(ROW, timeout=120).action.shape == ()  # gRPC shares one connection between both clients
        with client.play() as another:
            assert another.step(ROW).shape == ()
        assert proxy.connections == 2
