"""ServerConfig: every setting of the server, with its default, help text and range."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pgkeras.cores import available
from pgkeras.engines import EngineName
from pgkeras.errors import ConfigError
from pgkeras.protocol.wire import MAX_MESSAGE_BYTES
from pgkeras.settings.fields import check_fields, check_keys, setting

__all__ = ["PER_POLICY", "ServerConfig", "settings"]

PER_POLICY = ("max_batch_size", "max_queued", "max_queue_seconds", "max_engines")
"""Settings that a configuration file can also set for a single policy."""

_MAX_OF_GRPC = 2**31 - 2  # channel arguments are C ints; the largest int makes gRPC's core abort the process
# Limits are sent to clients as 64-bit integers, and durations as protobuf's, which end at 10,000 years.
_MAX, _MAX_SECONDS = 2**63 - 1, 315_576_000_000.0


@dataclass(frozen=True)
class ServerConfig:
    """Settings of the policy server. Its options, variables, file and documentation are derived from this class.

    Args:
        policies: Settings of :data:`PER_POLICY` for individual policies, by policy name.

    Raises:
        ConfigError: A value has the wrong type or is outside its range, or settings contradict each other.
    """

    root: Path = setting(Path("saved_models"), "Directory of policies, or one policy's or version's own directory.")
    host: str = setting(
        "127.0.0.1", "Address to listen on. With 0.0.0.0 or [::], other machines can connect; this requires TLS."
    )
    port: int = setting(50051, "Port to listen on; 0 selects a free port.", minimum=0, maximum=65535)
    workers: int | Literal["auto"] = setting(
        1, "Number of processes that answer calls, at most one per core; auto starts one per core.", minimum=1
    )
    port_file: Path | None = setting(None, "Write the port number to this file once the server is ready.")
    listen: str | None = setting(None, "Unix-domain socket to listen on instead of host and port, as unix:PATH.")
    socket_mode: str = setting(
        "600", "Permissions of the Unix-domain socket, in octal; they determine who may connect."
    )
    http_port: int | None = setting(
        None,
        "Port of the status page, /metrics, /healthz and /readyz; 0 selects a free port.",
        minimum=0,
        maximum=65535,
    )
    http_host: str = setting("127.0.0.1", "Address of the status page. Access from other machines requires TLS.")
    tls_cert: Path | None = setting(None, "PEM file of the certificate chain; enables TLS.")
    tls_key: Path | None = setting(None, "PEM file of the certificate's private key.")
    tls_client_ca: Path | None = setting(
        None, "PEM file of certificate authorities; only clients with a certificate that they signed can connect."
    )
    token_file: Path | None = setting(
        None, "File of hashed tokens (see pgkeras token); calls without a valid token are refused."
    )
    insecure: bool = setting(
        False, "Allow access from other machines without TLS, for networks that are protected otherwise."
    )
    log_format: str = setting(
        "auto",
        "Format of log lines; auto is human on a terminal and json otherwise.",
        choices=("auto", "human", "json"),
    )
    log_level: str = setting("info", "Lowest level that is logged.", choices=("debug", "info", "warning", "error"))
    log_access: bool = setting(False, "Log a line for every call that ends.")
    log_observations: bool = setting(False, "Include observations, which may be private, in the log of calls.")
    traces: bool = setting(
        False,
        "Export traces of Act and of sessions' messages with OpenTelemetry (extra trace). Its environment variables "
        "configure the export, such as OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_TRACES_SAMPLER.",
    )
    engine: EngineName = setting(
        "auto",
        "Engine that computes policies; auto is LiteRT if it supports the policy, otherwise TensorFlow.",
        choices=get_args(EngineName),
    )
    poll_seconds: float = setting(
        1.0,
        "Seconds between two scans of the directory for new versions and labels.",
        minimum=0.01,
        maximum=_MAX_SECONDS,
    )
    max_batch_size: int = setting(
        4096, "Maximum number of observations in one request, and in one computed batch.", minimum=1, maximum=_MAX
    )
    max_queued: int = setting(
        65536,
        "Maximum number of queued observations per policy; further calls are told to retry.",
        minimum=1,
        maximum=_MAX,
    )
    max_queue_seconds: float = setting(
        30.0,
        "Maximum seconds that an observation may wait in the queue; then the call is told to retry.",
        minimum=0.001,
        maximum=_MAX_SECONDS,
    )
    max_engines: int = setting(
        4,
        "Maximum number of batches of a slow policy computed at the same time, each by a copy of its engine.",
        minimum=1,
    )
    max_message_bytes: int = setting(
        MAX_MESSAGE_BYTES, "Maximum size of a received or sent message, in bytes.", minimum=1024, maximum=_MAX_OF_GRPC
    )
    max_header_bytes: int = setting(16384, "Maximum size of a call's metadata, in bytes.", minimum=1024, maximum=2**20)
    compression: bool = setting(
        False, "Accept compressed messages; each can expand from a few kB to max_message_bytes."
    )
    max_connections: int = setting(
        10000, "Maximum number of open connections; further ones are closed.", minimum=1, maximum=_MAX_OF_GRPC
    )
    max_streams: int = setting(
        4096,
        "Maximum number of concurrent calls and sessions per connection; further ones wait.",
        minimum=1,
        maximum=_MAX_OF_GRPC,
    )
    max_pending_calls: int = setting(
        1000,
        "Maximum number of calls that wait to be accepted; beyond it, gRPC cancels a growing share of new calls.",
        minimum=1,
        maximum=_MAX_OF_GRPC // 2,  # gRPC refuses all calls at twice the setting
    )
    max_sessions: int = setting(
        4096, "Maximum number of open Play sessions; further ones are told to retry.", minimum=1, maximum=_MAX
    )
    session_idle_seconds: float = setting(
        300.0, "Seconds after which an idle session is ended.", minimum=0.001, maximum=_MAX_SECONDS
    )
    keepalive_seconds: float = setting(
        60.0,
        "Seconds after which an idle connection is pinged; it is closed if the client does not respond.",
        minimum=1.0,
        maximum=_MAX_SECONDS,
    )
    min_ping_seconds: float = setting(
        10.0,
        "Minimum seconds between a client's keepalive pings. The project's clients ping every 20 s.",
        minimum=0.0,
        maximum=_MAX_SECONDS,
    )
    drain_delay_seconds: float = setting(
        0.5,
        "Seconds for which calls are still answered after SIGTERM or Ctrl-C, while the server already reports that it "
        "is not ready, so that load balancers notice first.",
        minimum=0.0,
        maximum=_MAX_SECONDS,
    )
    wait_for_policies: bool = setting(
        False, "Start even if there is no policy yet, and become ready when the first one appears."
    )
    drain_seconds: float = setting(
        10.0,
        "Seconds that calls in progress have to finish after SIGTERM or Ctrl-C.",
        minimum=0.0,
        maximum=_MAX_SECONDS,
    )
    policies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("tls_cert and tls_key must be set together")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ConfigError("tls_client_ca: client certificates require TLS; set tls_cert and tls_key as well")
        if self.workers != "auto" and self.workers > max(1, available()):
            raise ConfigError(
                f"workers: expected auto or at most {available()}, the number of cores that this process may use; "
                f"got {self.workers}, which would be slower"
            )
        if self.workers_wanted > 1 and not hasattr(socket, "SO_REUSEPORT"):
            raise ConfigError("workers: processes cannot share a port on this system; expected 1")
        if self.log_observations and not self.log_access:
            raise ConfigError("log_observations: observations are part of the log of calls; set log_access as well")
        if self.listen is not None:
            self._check_socket()
        for name in self.policies:
            self.of_policy(name)

    @property
    def workers_wanted(self) -> int:
        """The number of processes that answer calls."""
        return available() if self.workers == "auto" else self.workers

    def of_policy(self, name: str) -> Self:
        """Returns the settings for one policy.

        Raises:
            ConfigError: The policy's own settings are unknown or invalid.
        """
        own = self.policies.get(name)
        if own is None:
            return self
        try:
            if not isinstance(own, Mapping):
                raise ConfigError(f"expected a table, got {own!r}")
            check_keys(own, list(PER_POLICY))
            return dataclasses.replace(self, **own, policies={})
        except ConfigError as error:
            raise ConfigError(f"policies.{name}: {error}") from error

    def _check_socket(self) -> None:
        assert self.listen is not None
        if not self.listen.startswith("unix:") or self.listen == "unix:":
            raise ConfigError(f"listen: expected unix:PATH, such as unix:/run/pgkeras.sock, got {self.listen!r}")
        if self.tls_cert is not None:
            raise ConfigError("listen: a Unix-domain socket is protected by socket_mode, not by TLS; remove tls_cert")
        if len(self.socket_mode) > 4 or set(self.socket_mode) - set("01234567") or not self.socket_mode:
            raise ConfigError(f"socket_mode: expected permissions in octal such as 660, got {self.socket_mode!r}")


def settings() -> list[Field[Any]]:
    """Returns the settings that have a command-line option, in order."""
    return [f for f in fields(ServerConfig) if "help" in f.metadata]
