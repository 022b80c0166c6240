"""Limits that gRPC enforces, as channel arguments of the server."""

from __future__ import annotations

from pgkeras_serving.settings.config import ServerConfig

__all__ = ["transport_options"]

# Time limit for a handshake. gRPC's default of two minutes helps slow attackers.
_HANDSHAKE_MS = 20_000
_KEEPALIVE_TIMEOUT_MS = 20_000
# One bit each: identity, deflate, gzip.
_NO_ALGORITHM, _ALL_ALGORITHMS = 0b001, 0b111


def transport_options(config: ServerConfig) -> list[tuple[str, int]]:
    """Returns the limits as gRPC channel arguments."""
    return [
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", config.max_message_bytes),
        # Between these two limits, gRPC refuses at random. Equal limits make the behavior deterministic.
        ("grpc.max_metadata_size", config.max_header_bytes),
        ("grpc.absolute_max_metadata_size", config.max_header_bytes),
        ("grpc.compression_enabled_algorithms_bitset", _ALL_ALGORITHMS if config.compression else _NO_ALGORITHM),
        ("grpc.max_allowed_incoming_connections", config.max_connections),
        ("grpc.max_concurrent_streams", config.max_streams),
        # Between these two limits, gRPC refuses at random. Refusing with a status from Python would take more than half
        # the time of a response, so a server with three times too many calls could do nothing else.
        ("grpc.server.max_pending_requests", config.max_pending_calls),
        ("grpc.server.max_pending_requests_hard_limit", 2 * config.max_pending_calls),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        ("grpc.http2.settings_timeout", _HANDSHAKE_MS),
        ("grpc.keepalive_time_ms", _milliseconds(config.keepalive_seconds)),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _milliseconds(config.min_ping_seconds)),
    ]


def _milliseconds(seconds: float) -> int:
    return min(round(seconds * 1000), 2**31 - 1)
