"""ServerConfig: every setting of the server, with its default and its explanation, once."""

from __future__ import annotations

import math
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from pgkeras.engines import EngineName
from pgkeras.errors import ConfigError
from pgkeras.wire import MAX_MESSAGE_BYTES

__all__ = ["ServerConfig", "settings"]


def _about(explanation: str, lowest: float | None = None, highest: float | None = None) -> dict[str, Any]:
    return {"help": explanation, "range": (lowest, highest)}


@dataclass(frozen=True)
class ServerConfig:
    """Settings of the policy server; ``pgkeras serve --help`` is made from this class.

    Raises:
        ConfigError: A number lies outside its range, or settings do not go together.
    """

    root: Path = field(metadata={"help": "Directory of policies, or one policy's or version's own directory."})
    host: str = field(
        default="127.0.0.1",
        metadata=_about("Address to listen on; 0.0.0.0 or [::] lets other machines in, for which TLS is needed."),
    )
    port: int = field(default=50051, metadata=_about("Port to listen on; 0 takes any free one.", 0, 65535))
    port_file: Path | None = field(
        default=None, metadata=_about("Write the port number to this file once the server is ready.")
    )
    tls_cert: Path | None = field(default=None, metadata=_about("PEM file of the certificate chain; turns TLS on."))
    tls_key: Path | None = field(default=None, metadata=_about("PEM file of that certificate's private key."))
    tls_client_ca: Path | None = field(
        default=None, metadata=_about("PEM file of authorities; only clients with a certificate of theirs are let in.")
    )
    token_file: Path | None = field(
        default=None,
        metadata=_about("File of hashed tokens, see pgkeras token; calls without one are refused."),
    )
    insecure: bool = field(
        default=False, metadata=_about("Listen beyond this machine without TLS, because something else protects it.")
    )
    engine: EngineName = field(
        default="auto", metadata=_about("What computes policies; auto is LiteRT where it can, else TensorFlow.")
    )
    poll_seconds: float = field(
        default=1.0, metadata=_about("How often the directory is looked at for new versions and labels.", 0.01)
    )
    max_batch_size: int = field(
        default=4096, metadata=_about("Most observations in one request, and in one batch computed at once.", 1)
    )
    max_queued: int = field(
        default=65536, metadata=_about("Most observations waiting per policy; beyond it, calls are told to retry.", 1)
    )
    max_message_bytes: int = field(
        default=MAX_MESSAGE_BYTES, metadata=_about("Largest message received or sent, in bytes.", 1024)
    )
    max_sessions: int = field(
        default=4096, metadata=_about("Most sessions of Play at once; beyond it, new ones are told to retry.", 1)
    )
    session_idle_seconds: float = field(
        default=300.0, metadata=_about("A session that moves nothing for so long is ended.", 0.001)
    )
    min_ping_seconds: float = field(
        default=10.0, metadata=_about("Shortest interval of clients' keepalive pings that is let pass.", 0.0)
    )
    drain_seconds: float = field(
        default=10.0, metadata=_about("How long calls in flight may take to finish after SIGTERM or Ctrl-C.", 0.0)
    )

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("tls_cert and tls_key belong together: give both or none")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ConfigError("tls_client_ca: clients show certificates only over TLS: give tls_cert and tls_key, too")
        for setting in settings():
            lowest, highest = setting.metadata["range"]
            value = getattr(self, setting.name)
            if lowest is None:
                continue
            if not lowest <= value <= (math.inf if highest is None else highest):
                allowed = f"of at least {lowest}" if highest is None else f"from {lowest} to {highest}"
                raise ConfigError(f"{setting.name}: expected a number {allowed}, got {value}")


def settings() -> list[Field[Any]]:
    """The fields of :class:`ServerConfig` that have a default, in order."""
    return [f for f in fields(ServerConfig) if "range" in f.metadata]
