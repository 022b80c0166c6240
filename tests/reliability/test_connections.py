"""Clients that read nothing, write nothing, or write one byte at a time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest

from benchmarks.soak.crowds import crowd
from benchmarks.soak.fuzz import recorded_call
from benchmarks.soak.server import SHIPPED, serving
from pgkeras.client import PolicyClient
from pgkeras.errors import ServerUnavailableError
from pgkeras.protocol.wire import encode_tensor
from pgkeras.v1 import service_pb2, tensors_pb2
from tests.reliability.conftest import ONE, is_sound
from tests.serving.conftest import wait_until
from tests.serving.transport import http2


def _messages(rows):
    continues = encode_tensor(np.zeros(rows, np.bool_))
    rewards = encode_tensor(np.zeros(rows, np.float32))
    observations = tensors_pb2.Value(tensor=encode_tensor(np.zeros((rows, 4), np.float32)))
    outputs = [1, 2, 3, 4, 5]
    first = service_pb2.PlayRequest(observation=observations, outputs=outputs)
    later = service_pb2.PlayRequest(
        observation=observations, outputs=outputs, reward=rewards, terminated=continues, truncated=continues
    )
    return first.SerializeToString(), later.SerializeToString()


@pytest.mark.parametrize("is_alone", [True, False])
@pytest.mark.parametrize("goes_on_sending", [True, False])
def test_a_client_that_stops_reading_is_held_back_and_loses_its_place(tmp_path, goes_on_sending, is_alone):
    first, later = _messages(256 if goes_on_sending else 4096)  # one response for 4096 rows fills the HTTP/2 windows
    sent, stop = 0, threading.Event()

    def messages():
        nonlocal sent
        yield first
        while not stop.is_set():
            sent += 1
            yield later
            if not goes_on_sending:
                stop.wait(120)

    options = ("--max-sessions", "1" if is_alone else "2", "--session-idle-seconds", "1.5")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving(SHIPPED, tmp_path, *options))
        channel = stack.enter_context(grpc.insecure_channel(server.target))
        if not is_alone:
            stack.enter_context(_other_session(server.target))
        before = server.rss_mb()
        call = channel.stream_stream("/pgkeras.v1.PolicyService/Play")(messages(), timeout=120)
        _until_unchanged(lambda: sent)
        assert 0 < sent < 20_000, "flow control stops the client once the HTTP/2 windows are full"
        assert server.rss_mb() < before + 64
        assert is_sound(server.target)

        def gets_a_session():
            with PolicyClient(server.target) as client, client.play() as session, contextlib.suppress(Exception):
                return session.step(ONE) is not None

        wait_until(gets_a_session, 60.0)
        stop.set()
        with pytest.raises(grpc.RpcError) as caught:
            for _ in call:
                pass
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        details = caught.value.details()
        assert "nothing was sent or received for 1.5 s" in details, "the session expired, not the call's deadline"
        assert server.stop() == 0
        assert "Traceback" not in server.log.read_text()


@contextlib.contextmanager
def _other_session(target):
    """A session that a thread plays until the block or the server ends."""
    stop, steps = threading.Event(), 0

    def play():
        nonlocal steps
        with contextlib.suppress(ServerUnavailableError), PolicyClient(target) as client, client.play() as session:
            session.step(ONE)
            while not stop.wait(0.01):
                session.step(ONE, 0.0, False, False)
                steps += 1

    player = threading.Thread(target=play)
    player.start()
    wait_until(lambda: steps > 0, 20.0)
    try:
        yield
    finally:
        stop.set()
        player.join(30)


def _until_unchanged(number, seconds=60.0):
    last, since, end = number(), time.monotonic(), time.monotonic() + seconds
    while time.monotonic() < since + 0.5 or last == 0:
        assert time.monotonic() < end, "it never stops changing"
        time.sleep(0.02)
        if number() != last:
            last, since = number(), time.monotonic()


@pytest.mark.slow
def test_a_thousand_sessions_play_and_a_thousand_stand_idle(tmp_path):
    found = crowd(tmp_path, sessions=1000, seconds=1.0)
    assert list(found["playing"]) == ["OK"]
    assert found["playing"]["OK"] > 0  # the number depends on the machine
    assert found["idle_sessions"] == 1000  # each was answered once
    assert found["one_too_many"] == "RESOURCE_EXHAUSTED"
    assert list(found["calls_beside_idle"]) == ["OK"]
    assert found["clean_log"]
    assert found["exit_status"] == 0


def test_a_call_that_trickles_in_is_answered_and_holds_nobody_up(shipped):
    host, _, port = shipped.target.rpartition(":")
    whole = recorded_call(host, int(port))
    answered, before = threading.Event(), _descriptors(shipped)
    with socket.create_connection((host, int(port))) as slow:

        def trickle():
            for byte in whole:
                slow.sendall(bytes([byte]))
                time.sleep(0.002)
            received = b""
            while b"cartpole-v1" not in received and (data := slow.recv(4096)):
                received += data
            if b"cartpole-v1" in received:  # the response contains the policy's name
                answered.set()

        thread = threading.Thread(target=trickle)
        thread.start()
        beside = 0
        with PolicyClient(shipped.target, timeout=60.0) as client:
            while thread.is_alive():
                client.act(ONE)
                beside += 1
        thread.join()
    assert answered.is_set()
    assert beside > 5
    wait_until(lambda: _descriptors(shipped) <= before)


def test_connections_with_an_unfinished_preface_delay_nobody(shipped):
    host, _, port = shipped.target.rpartition(":")
    before = _descriptors(shipped)
    preface = http2.PREFACE
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(200)]
        for i, connection in enumerate(connections):
            connection.sendall(preface[: i % len(preface)])
        assert is_sound(shipped.target)
        for i, connection in enumerate(connections):
            connection.sendall(preface[i % len(preface) :] + b"\x00\xff\xff\x01")  # and half of a frame header
        assert is_sound(shipped.target)
    wait_until(lambda: _descriptors(shipped) <= before)


def test_cancelled_calls_leak_no_file_descriptor(shipped):
    async def cancel(calls):
        async with grpc.aio.insecure_channel(shipped.target) as channel:
            play = channel.stream_stream("/pgkeras.v1.PolicyService/Play")
            for _ in range(calls):
                stream = play()
                await stream.write(_messages(256)[0])
                stream.cancel()

    asyncio.run(cancel(1))  # gRPC's client may keep one connection open
    before = _descriptors(shipped)
    asyncio.run(cancel(200))
    assert is_sound(shipped.target)
    wait_until(lambda: _descriptors(shipped) <= before)


def _descriptors(server):
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
