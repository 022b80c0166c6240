"""Limits of a policy's calls, as GetPolicy returns them."""

from __future__ import annotations

from google.protobuf import duration_pb2

from pgkeras.v1 import service_pb2
from pgkeras_serving.settings.config import ServerConfig

__all__ = ["limits"]


def limits(config: ServerConfig) -> service_pb2.Limits:
    """Returns the limits for GetPolicy.

    Args:
        config: The server's settings for the policy.
    """
    return service_pb2.Limits(
        max_batch_size=config.max_batch_size,
        max_receive_message_bytes=config.max_message_bytes,
        max_send_message_bytes=config.max_message_bytes,
        max_queued=config.max_queued,
        max_queue_time=_duration(config.max_queue_seconds),
        max_sessions=config.max_sessions,
        session_idle_time=_duration(config.session_idle_seconds),
        max_streams_per_connection=config.max_streams,
        max_header_bytes=config.max_header_bytes,
        min_ping_interval=_duration(config.min_ping_seconds),
        max_connections=config.max_connections,
        keepalive_interval=_duration(config.keepalive_seconds),
        compression=config.compression,
    )


def _duration(seconds: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
