"""Mutated, truncated, random and oversized bytes: status codes are right, and the server keeps serving."""

from __future__ import annotations

import asyncio
import socket
import struct

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from benchmarks.soak.fuzz import (
    act_seeds,
    fuzz,
    fuzz_calls,
    fuzz_connections,
    fuzz_edge,
    fuzz_sessions,
    play_seeds,
    recorded_call,
)
from pgkeras.client import PolicyClient
from pgkeras.errors import InvalidRequestError
from pgkeras.protocol.status import decode_error, read_status
from tests.reliability.conftest import ONE, is_sound

NONSENSE = b"\xff\xff\xff"


def test_whatever_parses_is_answered_or_refused():
    outcomes = fuzz_edge(6000)
    assert outcomes["Act: answered"] > 50
    assert outcomes["Play: OK"] > 50
    assert outcomes["Act: InvalidRequestError"] > 500
    assert outcomes["Play: INVALID_ARGUMENT"] > 500


def test_broken_calls_have_the_right_code(shipped):
    codes = asyncio.run(fuzz_calls(shipped.target, 1000))
    assert codes["INVALID_ARGUMENT"] > 250
    assert codes["OK"] > 10
    assert is_sound(shipped.target)


def test_broken_messages_do_not_break_sessions(shipped):
    codes = asyncio.run(fuzz_sessions(shipped.target, 1000))
    assert codes["INVALID_ARGUMENT"] > 50
    assert codes["OK"] > 50
    assert codes["session ended: INVALID_ARGUMENT"] > 50
    assert is_sound(shipped.target)


def test_broken_connections_are_dropped(shipped):
    assert fuzz_connections(shipped.target, 200) > 10_000
    assert is_sound(shipped.target)


def test_nonsense_does_not_fill_the_log(shipped):
    before = shipped.log.stat().st_size
    with grpc.insecure_channel(shipped.target) as channel:
        for _ in range(200):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary("/pgkeras.v1.PolicyService/Act")(NONSENSE, timeout=60)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            with pytest.raises(grpc.RpcError) as caught:
                list(channel.stream_stream("/pgkeras.v1.PolicyService/Play")(iter([NONSENSE]), timeout=60))
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert shipped.log.stat().st_size == before


def test_an_unparsable_request_is_refused_with_field_details(shipped):
    with grpc.insecure_channel(shipped.target) as channel:
        for method in ("Act", "GetPolicy"):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(f"/pgkeras.v1.PolicyService/{method}")(NONSENSE, timeout=60)
            status = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
            violation = error_details_pb2.BadRequest()
            assert status.details[0].Unpack(violation)
            assert violation.field_violations[0].field == "message"
            error = decode_error(read_status(3, caught.value.details(), caught.value.trailing_metadata()))
            assert isinstance(error, InvalidRequestError)


def test_an_unparsable_message_ends_only_its_own_session(shipped):
    with grpc.insecure_channel(shipped.target) as channel:
        play = channel.stream_stream("/pgkeras.v1.PolicyService/Play")
        first, later = play_seeds()[:2]

        def messages():
            yield first
            assert _responses_before_refusal(play, [first, later, NONSENSE, later]) == 2
            yield later

        assert len(list(play(messages(), timeout=60))) == 2


def _responses_before_refusal(play, messages):
    responses = []
    with pytest.raises(grpc.RpcError) as caught:
        responses.extend(play(iter(messages), timeout=60))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    return len(responses)


@pytest.mark.parametrize("method", ["Act", "Play"])
def test_an_oversized_message_is_refused_before_it_is_read(shipped, method):
    huge = act_seeds()[0] + b"\x2a\x80\x80\x80\x28" + bytes(80 * 2**20)  # a state of 80 MiB; the limit is 64 MiB
    before = shipped.rss_mb()
    with grpc.insecure_channel(shipped.target, [("grpc.max_send_message_length", -1)]) as channel:
        kind = channel.unary_stream if method == "Act" else channel.stream_stream
        call = kind(f"/pgkeras.v1.PolicyService/{method}")
        with pytest.raises(grpc.RpcError) as caught:
            list(call(huge if method == "Act" else iter([huge]), timeout=60))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert shipped.rss_mb() < before + 40
    assert is_sound(shipped.target)


def test_a_path_that_is_no_text_ends_nobody_elses_session(shipped):
    host, _, port = shipped.target.rpartition(":")
    call = recorded_call(host, int(port))
    broken = call.replace(b"/pgkeras.v1.", b"/pgker\xe1s.v1.")
    assert broken != call
    with PolicyClient(shipped.target, timeout=60.0) as client, client.play() as session:
        session.step(ONE)
        for _ in range(5):
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(broken)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    pass
            session.step(ONE, 1.0, False, False)  # a session is never reopened, so this is the same one
        assert client.act(ONE).version == 1
    assert is_sound(shipped.target)


def test_peers_that_disconnect_before_their_response_do_not_fill_the_log(shipped):
    host, _, port = shipped.target.rpartition(":")
    call = recorded_call(host, int(port))
    before = shipped.log.read_text()
    for _ in range(200):
        connection = socket.create_connection((host, int(port)))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(call)
        connection.close()  # sends a reset
    assert is_sound(shipped.target)
    lines = shipped.log.read_text().removeprefix(before).splitlines()
    assert len(lines) <= 10
    assert all(line.startswith("{") for line in lines), "each line is one JSON object"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_of_each(tmp_path):
    found = fuzz(tmp_path, 100_000)
    assert sum(found["past_the_transport"].values()) > 50_000, "half of the requests still parse"
    assert sum(found["calls"].values()) == 100_000
    assert sum(found["sessions"].values()) >= 99_000
    assert found["tracebacks_of_ours"] == 0
    assert found["exit_status"] == 0
