"""ServerConfig: every setting of the server, with its default, help and range, each written here once."""

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
"""Settings that a configuration file can also give for one policy alone."""

_MOST_OF_GRPC = 2**31 - 2  # its channel arguments are ints of C; at the largest one its core gives up the process
# Clients are told limits: in 64 bits, and durations as protobuf has them, of 10,000 years at the most.
_MOST, _MOST_SECONDS = 2**63 - 1, 315_576_000_000.0


@dataclass(frozen=True)
class ServerConfig:
    """Settings of the policy server; its options, variables, file and documentation are made from this class.

    Args:
        policies: For some policies, by name, settings of :data:`PER_POLICY` of their own.

    Raises:
        ConfigError: A value is of the wrong type or outside its range, or settings do not go together.
    """

    root: Path = setting(Path("saved_models"), "Directory of policies, or one policy's or version's own directory.")
    host: str = setting(
        "127.0.0.1", "Address to listen on; 0.0.0.0 or [::] lets other machines in, for which TLS is needed."
    )
    port: int = setting(50051, "Port to listen on; 0 takes any free one.", minimum=0, maximum=65535)
    workers: int | Literal["auto"] = setting(
        1, "Processes that answer calls on this port, each on a core of its own; auto for one a core.", minimum=1
    )
    port_file: Path | None = setting(None, "Write the port number to this file once the server is ready.")
    listen: str | None = setting(None, "unix:PATH listens on a Unix-domain socket instead of host and port.")
    socket_mode: str = setting("600", "Permissions of the Unix-domain socket, in octal: who may connect.")
    http_port: int | None = setting(
        None, "Port of the status page, /metrics, /healthz and /readyz; 0 takes any free one.", minimum=0, maximum=65535
    )
    http_host: str = setting("127.0.0.1", "Address of the status page; beyond this machine it needs TLS, too.")
    tls_cert: Path | None = setting(None, "PEM file of the certificate chain; turns TLS on.")
    tls_key: Path | None = setting(None, "PEM file of that certificate's private key.")
    tls_client_ca: Path | None = setting(
        None, "PEM file of authorities; only clients with a certificate of theirs are let in."
    )
    token_file: Path | None = setting(None, "File of hashed tokens, see pgkeras token; calls without one are refused.")
    insecure: bool = setting(False, "Listen beyond this machine without TLS, because something else protects it.")
    log_format: str = setting(
        "auto",
        "How log lines are written; auto is for people on a terminal, else JSON.",
        choices=("auto", "human", "json"),
    )
    log_level: str = setting("info", "Lowest level logged.", choices=("debug", "info", "warning", "error"))
    log_access: bool = setting(False, "Log a line for every call that ends.")
    log_observations: bool = setting(False, "Put observations into the log of calls; they may be private.")
    traces: bool = setting(
        False,
        "Send traces of Act and of sessions' messages by OpenTelemetry (extra trace), whose own variables say where to "
        "and how many: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER and the like.",
    )
    engine: EngineName = setting(
        "auto", "What computes policies; auto is LiteRT where it can, else TensorFlow.", choices=get_args(EngineName)
    )
    poll_seconds: float = setting(
        1.0, "How often the directory is looked at for new versions and labels.", minimum=0.01, maximum=_MOST_SECONDS
    )
    max_batch_size: int = setting(
        4096, "Most observations in one request, and in one batch computed at once.", minimum=1, maximum=_MOST
    )
    max_queued: int = setting(
        65536, "Most observations waiting per policy; beyond it, calls are told to retry.", minimum=1, maximum=_MOST
    )
    max_queue_seconds: float = setting(
        30.0,
        "Longest wait of an observation for its policy; after it, the call is told to retry.",
        minimum=0.001,
        maximum=_MOST_SECONDS,
    )
    max_engines: int = setting(
        4, "Most batches of one slow policy computed at once, each by a copy of its own, as far as cores go.", minimum=1
    )
    max_message_bytes: int = setting(
        MAX_MESSAGE_BYTES, "Largest message received or sent, in bytes.", minimum=1024, maximum=_MOST_OF_GRPC
    )
    max_header_bytes: int = setting(16384, "Largest metadata of a call, in bytes.", minimum=1024, maximum=2**20)
    compression: bool = setting(
        False, "Accept compressed messages, each of which can grow from a few kB to max_message_bytes."
    )
    max_connections: int = setting(
        10000, "Most connections at once; beyond it, new ones are closed.", minimum=1, maximum=_MOST_OF_GRPC
    )
    max_streams: int = setting(
        4096,
        "Most calls and sessions at once on one connection; beyond it, its next ones wait.",
        minimum=1,
        maximum=_MOST_OF_GRPC,
    )
    max_pending_calls: int = setting(
        1000,
        "Most calls waiting to be accepted; beyond it, gRPC cancels a growing share of new ones.",
        minimum=1,
        maximum=_MOST_OF_GRPC // 2,  # at twice the setting all are refused
    )
    max_sessions: int = setting(
        4096, "Most sessions of Play at once; beyond it, new ones are told to retry.", minimum=1, maximum=_MOST
    )
    session_idle_seconds: float = setting(
        300.0, "An idle session is ended after so long.", minimum=0.001, maximum=_MOST_SECONDS
    )
    keepalive_seconds: float = setting(
        60.0,
        "A connection that is silent for so long is pinged, and closed if nobody answers.",
        minimum=1.0,
        maximum=_MOST_SECONDS,
    )
    min_ping_seconds: float = setting(
        10.0,
        "Shortest interval allowed between a client's keepalive pings. The project's clients ping every 20 s.",
        minimum=0.0,
        maximum=_MOST_SECONDS,
    )
    drain_delay_seconds: float = setting(
        0.5,
        "How long calls are answered as before after SIGTERM or Ctrl-C, while readiness is off already, so that load "
        "balancers see it first.",
        minimum=0.0,
        maximum=_MOST_SECONDS,
    )
    wait_for_policies: bool = setting(
        False, "Start without a policy, not ready, and serve the first one that comes, instead of refusing to start."
    )
    drain_seconds: float = setting(
        10.0, "How long calls in flight may take to finish after SIGTERM or Ctrl-C.", minimum=0.0, maximum=_MOST_SECONDS
    )
    policies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("tls_cert and tls_key belong together: give both or none")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ConfigError("tls_client_ca: clients show certificates only over TLS: give tls_cert and tls_key, too")
        if self.workers != "auto" and self.workers > max(1, available()):
            raise ConfigError(
                f"workers: expected at most as many as the cores that this process may use, {available()}, or auto; "
                f"got {self.workers}, which would be slower"
            )
        if self.workers_wanted > 1 and not hasattr(socket, "SO_REUSEPORT"):
            raise ConfigError("workers: processes cannot share a port on this system; leave it at 1")
        if self.log_observations and not self.log_access:
            raise ConfigError("log_observations: they are part of the log of calls: set log_access, too")
        if self.listen is not None:
            self._check_socket()
        for name in self.policies:
            self.of_policy(name)

    @property
    def workers_wanted(self) -> int:
        """How many processes answer calls."""
        return available() if self.workers == "auto" else self.workers

    def of_policy(self, name: str) -> Self:
        """The settings that hold for one policy.

        Raises:
            ConfigError: Those of its own are no settings of a policy, or wrong.
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
            raise ConfigError("listen: a Unix-domain socket is protected by socket_mode, not TLS: leave out tls_cert")
        if len(self.socket_mode) > 4 or set(self.socket_mode) - set("01234567") or not self.socket_mode:
            raise ConfigError(f"socket_mode: expected permissions in octal such as 660, got {self.socket_mode!r}")


def settings() -> list[Field[Any]]:
    """The settings that have an option each, in order."""
    return [f for f in fields(ServerConfig) if "help" in f.metadata]
