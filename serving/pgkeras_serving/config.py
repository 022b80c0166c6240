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


def _setting(default: Any, explanation: str, lowest: float | None = None, highest: float | None = None) -> Any:
    return field(default=default, metadata={"help": explanation, "range": (lowest, highest)})


@dataclass(frozen=True)
class ServerConfig:
    """Settings of the policy server; ``pgkeras serve --help`` is made from this class.

    Raises:
        ConfigError: A number lies outside its range.
    """

    root: Path = field(metadata={"help": "Directory of policies, or one policy's or version's own directory."})
    host: str = _setting("127.0.0.1", "Address to listen on; 0.0.0.0 or [::] lets other machines in, unencrypted.")
    port: int = _setting(50051, "Port to listen on; 0 takes any free one.", 0, 65535)
    port_file: Path | None = _setting(None, "Write the port number to this file once the server is ready.")
    engine: EngineName = _setting("auto", "What computes policies; auto is LiteRT where it can, else TensorFlow.")
    max_batch_size: int = _setting(4096, "Most observations in one request, and in one batch computed at once.", 1)
    max_queued: int = _setting(65536, "Most observations waiting per policy; beyond it, calls are told to retry.", 1)
    max_message_bytes: int = _setting(MAX_MESSAGE_BYTES, "Largest message received or sent, in bytes.", 1024)
    min_ping_seconds: float = _setting(10.0, "Shortest interval of clients' keepalive pings that is let pass.", 0.0)
    drain_seconds: float = _setting(10.0, "How long calls in flight may take to finish after SIGTERM or Ctrl-C.", 0.0)

    def __post_init__(self) -> None:
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
