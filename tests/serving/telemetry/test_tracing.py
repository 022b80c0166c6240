"""Spans of calls, as an OpenTelemetry collector receives them."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from concurrent import futures

import grpc
import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from pgkeras.client import PolicyClient
from pgkeras.protocol.wire import encode_tensor
from pgkeras.v1 import service_pb2, service_pb2_grpc, tensors_pb2
from tests.serving.conftest import running, wait_until

_TRACE = "0af7651916cd43dd8448eb211c80319c"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self):
        self.spans = []

    def Export(self, request, context):
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector(monkeypatch):
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    yield collector
    server.stop(None)


def attributes(span):
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


def test_a_call_and_its_parts(policies, tmp_path, collector):
    with running(policies, tmp_path, "--traces") as server:
        with grpc.insecure_channel(server.target) as channel:
            stub = service_pb2_grpc.PolicyServiceStub(channel)
            value = tensors_pb2.Value(tensor=encode_tensor(np.zeros((3, 4), np.float32)))
            request = service_pb2.ActRequest(observation=value)
            request.policy.name = "discrete"
            stub.Act(request, metadata=[("traceparent", f"00-{_TRACE}-b7ad6b7169203331-01")])
            request.policy.name = "nobody"
            with pytest.raises(grpc.RpcError):
                stub.Act(request)
        with PolicyClient(server.target, "discrete") as client, client.play() as session:
            session.step(np.zeros((2, 4), np.float32))
        wait_until(lambda: len(collector.spans) >= 7)
        assert server.stop() == 0
    calls = [span for span in collector.spans if span.name.startswith("pgkeras.v1.PolicyService/")]
    answered, refused, played = sorted(calls, key=lambda span: span.start_time_unix_nano)
    assert answered.trace_id.hex() == _TRACE
    assert answered.parent_span_id.hex() == "b7ad6b7169203331"
    about = attributes(answered)
    expected = {"pgkeras.policy": "discrete", "pgkeras.version": 2, "pgkeras.observations": 3, "rpc.method": "Act"}
    assert expected.items() <= about.items()
    assert about["rpc.grpc.status_code"] == 0
    parts = [span for span in collector.spans if span.parent_span_id == answered.span_id]
    parts.sort(key=lambda span: span.start_time_unix_nano)
    assert [span.name for span in parts] == ["decode", "queue", "inference", "encode"]
    for before, after in itertools.pairwise(parts):
        assert before.end_time_unix_nano <= after.start_time_unix_nano
    slack = 1_000_000  # the call's times come from another clock than those of its parts
    assert answered.start_time_unix_nano - slack <= parts[0].start_time_unix_nano
    assert parts[-1].end_time_unix_nano <= answered.end_time_unix_nano + slack
    assert attributes(refused)["rpc.grpc.status_code"] == grpc.StatusCode.NOT_FOUND.value[0]
    assert refused.trace_id.hex() != _TRACE
    assert attributes(played)["rpc.method"] == "Play"


def test_an_unreachable_collector_fails_no_call(policies, tmp_path, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")  # in seconds; 10 by default
    with running(policies, tmp_path, "--traces") as server:
        with PolicyClient(server.target, "discrete") as client:
            for _ in range(20):
                client.act(np.zeros(4, np.float32))
        assert server.stop() == 0


def test_the_server_does_not_import_opentelemetry_by_default():
    code = "import sys, pgkeras_serving.server; print([m for m in sys.modules if m.startswith('opentelemetry')])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert printed.stdout.strip() == "[]"
