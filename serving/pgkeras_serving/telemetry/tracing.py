"""Tracing: spans of calls, exported by OpenTelemetry.

OpenTelemetry's environment variables configure the destination, the sampling and the service's name:
``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_TRACES_SAMPLER``, ``OTEL_SERVICE_NAME`` and others. A span continues the trace
that a caller names in its metadata (https://www.w3.org/TR/trace-context).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from pgkeras import __version__
from pgkeras.errors import MissingExtraError

try:
    from opentelemetry import propagate, trace
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
except ImportError as error:
    raise MissingExtraError(str(error.name), "trace", "trace calls") from error

__all__ = ["CallSpan", "Tracing"]

_SERVICE = "pgkeras.v1.PolicyService"


class Tracing:
    """Creates spans. A background thread exports them and drops them if the collector does not accept them."""

    def __init__(self) -> None:
        self._provider = TracerProvider(resource=Resource.create({"service.version": __version__}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("pgkeras", __version__)

    def call(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> CallSpan:
        """Starts the span of a call.

        Args:
            method: The method's name.
            metadata: The call's metadata, which may name a parent trace.
        """
        carrier = {key: value for key, value in metadata if isinstance(value, str)}
        return CallSpan(self._tracer, method, propagate.extract(carrier))

    def close(self) -> None:
        """Exports the remaining spans, within a time limit."""
        self._provider.shutdown()


class CallSpan:
    """The span of a call, with child spans for its parts.

    Args:
        tracer: The tracer.
        method: The method's name.
        context: The parent trace.
    """

    def __init__(self, tracer: trace.Tracer, method: str, context: Any) -> None:
        self._tracer = tracer
        self._epoch = time.time_ns() - time.perf_counter_ns()
        attributes = {"rpc.system": "grpc", "rpc.service": _SERVICE, "rpc.method": method}
        self._span = tracer.start_span(f"{_SERVICE}/{method}", context, trace.SpanKind.SERVER, attributes)
        self._inside = trace.set_span_in_context(self._span)

    def part(self, name: str, begin: int, end: int) -> None:
        """Adds a child span.

        Args:
            name: Its name.
            begin: Start (``time.perf_counter_ns``).
            end: End.
        """
        self._tracer.start_span(name, self._inside, start_time=self._epoch + begin).end(self._epoch + end)

    def decoded(self, begin: int, end: int) -> Callable[[int, int], None]:
        """Adds the span of decoding the request.

        Args:
            begin: Start of the decoding (``time.perf_counter_ns``).
            end: End of the decoding, when the request starts waiting.

        Returns:
            A function that adds the spans of waiting and of the inference, given the start and end of the inference.
        """
        self.part("decode", begin, end)

        def computed(began: int, done: int) -> None:
            self.part("queue", end, began)
            self.part("inference", began, done)

        return computed

    def about(self, policy: str, version: int, observations: int) -> None:
        """Sets the policy, its version and the number of observations as attributes."""
        self._span.set_attributes(
            {"pgkeras.policy": policy, "pgkeras.version": version, "pgkeras.observations": observations}
        )

    def end(self, code: int) -> None:
        """Ends the call's span.

        Args:
            code: gRPC status code.
        """
        self._span.set_attribute("rpc.grpc.status_code", code)
        if code:
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end()
