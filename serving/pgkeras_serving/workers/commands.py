"""Requests of the supervisor to its workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pgkeras_serving.settings.config import ServerConfig

__all__ = ["Digest", "Drain", "Listen", "Refresh", "Report", "Start"]

Digest = Mapping[tuple[object, ...], str]
"""The versions and labels that a worker has loaded: a unique key of each, and its name for the log."""


@dataclass(frozen=True)
class Start:
    """Configures the worker. Sent once, before all other requests.

    Args:
        config: The server's settings, with a fixed port.
        number: Number of the worker, for its log.
        switch: Descriptor of the switch's file.
    """

    config: ServerConfig
    number: int
    switch: int


@dataclass(frozen=True)
class Refresh:
    """Loads new versions, to be served when the switch reaches ``generation``. The reply is a :data:`Digest`."""

    generation: int


@dataclass(frozen=True)
class Listen:
    """Starts accepting calls. The reply is sent afterwards."""


@dataclass(frozen=True)
class Report:
    """Returns a :class:`pgkeras_serving.telemetry.snapshot.Snapshot`, empty before the worker accepts calls."""


@dataclass(frozen=True)
class Drain:
    """Drains and ends the worker. There is no reply."""
