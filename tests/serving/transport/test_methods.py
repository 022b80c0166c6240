"""Calls that are refused before their method runs, and reflection: over real sockets and with hand-written frames."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from pgkeras_serving.server import serving
from pgkeras_serving.settings.config import ServerConfig
from pgkeras_serving.transport.tokens import create_token, hashed_line

from benchmarks.soak.server import SHIPPED
from pgkeras.protocol.status import DETAILS_KEY
from pgkeras.v1 import service_pb2
from tests.serving.conftest import running
from tests.serving.transport import http2

ACT = "/pgkeras.v1.PolicyService/Act"
UNARY = [
    ACT,
    "/pgkeras.v1.PolicyService/GetPolicy",
    "/pgkeras.v1.PolicyService/ListPolicies",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
]


@pytest.mark.parametrize("method", UNARY)
def test_a_call_without_a_message_is_refused(channel, method):
    with pytest.raises(grpc.RpcError) as caught:
        channel.stream_unary(method)(iter(()), timeout=30)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "message: expected one, got none"
    assert DETAILS_KEY in dict(caught.value.trailing_metadata())


def test_health_checks_are_answered(channel):
    def call(method, request, response):
        serialize, parse = request.SerializeToString, response.FromString
        return channel.unary_unary(f"/grpc.health.v1.Health/{method}", serialize, parse)

    check = call("Check", health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse)
    assert check(health_pb2.HealthCheckRequest(service="pgkeras.v1.PolicyService")).status == 1


@pytest.mark.parametrize(("size", "is_refused"), [(15_000, False), (17_000, True), (200_000, True)])
def test_metadata_is_limited_for_clients_that_ignore_the_limit(server, size, is_refused):
    sent = _response_to(server.target, [(b"x-large", b"a" * size)])
    assert (b"metadata: expected at most 16384 bytes" in sent or b"exceeds" in sent) is is_refused
    assert (b"grpc-status\x010" in sent) is not is_refused


def _response_to(target, headers, path=b"/pgkeras.v1.PolicyService/ListPolicies"):
    """The bytes that the server sends for a call with some headers, from a client that ignores all limits."""
    host, _, port = target.rpartition(":")
    block = http2.call_headers(path, headers)
    parts = [block[i : i + 16_000] for i in range(0, len(block), 16_000)]
    kinds = [http2.HEADERS, *[http2.CONTINUATION] * (len(parts) - 1)]
    flags = [*[0] * (len(parts) - 1), http2.LAST_HEADERS]
    frames = [http2.frame(kind, part, flag) for kind, part, flag in zip(kinds, parts, flags, strict=True)]
    received = b""
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(http2.PREFACE + http2.frame(http2.SETTINGS, b"", stream=0))
        # An empty message that ends the stream.
        connection.sendall(b"".join(frames) + http2.frame(http2.DATA, bytes(5), http2.END))
        while b"grpc-status" not in received:
            data = connection.recv(65_536)
            assert data, f"closed without a status: {received!r}"
            received += data
        connection.settimeout(0.1)  # for the rest of the frame
        with contextlib.suppress(TimeoutError):
            received += connection.recv(65_536)
        return received


def test_callers_cannot_add_method_names_to_the_metrics(tmp_path):
    file = tmp_path / "tokens"
    file.write_text(hashed_line("robot-7", create_token()) + "\n")
    paths = [f"/pgkeras.v1.PolicyService/{name}".encode() for name in ("Act", "MadeUp", "AnotherOne")]

    async def main(headers, **settings):
        config = ServerConfig(SHIPPED, port=0, drain_delay_seconds=0.0, **settings)
        async with serving(config) as server:
            responses = [await asyncio.to_thread(_response_to, server.target, headers, path) for path in paths]
            return responses, server.requests.counts

    responses, counts = asyncio.run(main([], token_file=file))
    assert [b"grpc-status\x0216" in response for response in responses] == [True, False, False]
    assert counts == {("Act", "UNAUTHENTICATED"): 1}
    _, counts = asyncio.run(main([(b"x-large", b"a" * 17_000)]))
    assert counts == {("Act", "INVALID_ARGUMENT"): 1}


COMPRESSED = """
import sys, grpc
bomb = bytes([0x2a, 0x80, 0x80, 0x80, 0x18]) + bytes(48 * 2**20)  # a state of 48 MiB, 50 kB when compressed
with grpc.insecure_channel(sys.argv[1]) as channel:
    act = channel.unary_unary("/pgkeras.v1.PolicyService/Act")
    calls = [act.future(bomb, timeout=60, compression=grpc.Compression.Gzip) for _ in range(2)]
    print({call.code().name for call in calls})
"""


def test_compressed_messages_are_refused_before_they_grow(policies, tmp_path):
    with running(policies, tmp_path) as server:
        before = _peak_mb(server)
        sent = subprocess.run(
            [sys.executable, "-c", COMPRESSED, server.target], capture_output=True, text=True, check=True
        )
        assert sent.stdout.strip() == "{'UNIMPLEMENTED'}"
        assert _peak_mb(server) < before + 40
        with grpc.insecure_channel(server.target) as channel:
            assert not _limits(channel).compression


def test_compressed_messages_are_accepted_with_the_option(policies, tmp_path):
    with running(policies, tmp_path, "--compression") as server, grpc.insecure_channel(server.target) as channel:
        assert _limits(channel, grpc.Compression.Gzip).compression


def _limits(channel, compression=None):
    ask = channel.unary_unary("/pgkeras.v1.PolicyService/GetPolicy")
    request = service_pb2.GetPolicyRequest(policy={"name": "discrete"}).SerializeToString()
    return service_pb2.GetPolicyResponse.FromString(ask(request, timeout=60, compression=compression)).limits


def _peak_mb(server):
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_finds_services_methods_and_files(channel, version):
    service = f"grpc.reflection.{version}.ServerReflection"
    ask = channel.stream_stream(
        f"/{service}/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    symbols = [
        "pgkeras.v1.PolicyService",
        "pgkeras.v1.PolicyService.Act",
        "pgkeras.v1.ActRequest.policy",
        "google.protobuf.Struct",
        "google.rpc.BadRequest",
        service,
    ]
    requests = [reflection_pb2.ServerReflectionRequest(list_services="")]
    requests += [reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol) for symbol in symbols]
    requests += [reflection_pb2.ServerReflectionRequest(file_containing_symbol="pgkeras.v1.Nothing")]
    listed, *found, missing = ask(iter(requests), timeout=30)
    assert {s.name for s in listed.list_services_response.service} == {
        "pgkeras.v1.PolicyService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    for symbol, answer in zip(symbols, found, strict=True):
        files = [
            descriptor_pb2.FileDescriptorProto.FromString(file)
            for file in answer.file_descriptor_response.file_descriptor_proto
        ]
        names = {file.name for file in files}
        assert any(symbol.startswith(f"{file.package}.") for file in files), symbol
        assert all(set(file.dependency) <= names for file in files), "imported files are included"
    assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_the_details_of_a_refusal_name_the_message(channel):
    with pytest.raises(grpc.RpcError) as caught:
        channel.stream_unary(ACT)(iter(()), timeout=30)
    status = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())[DETAILS_KEY])
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    bad_request = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(bad_request)
    assert [violation.field for violation in bad_request.field_violations] == ["message"]


def test_many_small_headers_include_the_overhead_that_http2_counts(server):
    sent = _response_to(server.target, [(b"x-%03d" % i, b"a") for i in range(460)])
    assert b"metadata: expected at most 16384 bytes" in sent or b"exceeds" in sent
    assert b"grpc-status\x010" not in sent
