"""What a supervisor asks of its workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pgkeras_serving.settings.config import ServerConfig

__all__ = ["Digest", "Drain", "Listen", "Refresh", "Report", "Start"]

Digest = Mapping[tuple[object, ...], str]
"""The versions and labels that a worker has found: what tells each from every other, and what to call it in the log."""


@dataclass(frozen=True)
class Start:
    """Get ready to look; comes first, once.

    Args:
        config: The settings; of the port, the number is fixed.
        number: Which of the workers it is, for its log.
        switch: Descriptor of the switch's file.
    """

    config: ServerConfig
    number: int
    switch: int


@dataclass(frozen=True)
class Refresh:
    """Load what is new under the served directory, and keep it until the switch reaches a generation.

    The reply is a :data:`Digest`.
    """

    generation: int


@dataclass(frozen=True)
class Listen:
    """Take calls from now on; the reply comes when it does."""


@dataclass(frozen=True)
class Report:
    """The reply is a :class:`pgkeras_serving.telemetry.snapshot.Snapshot`; an empty one before it takes calls."""


@dataclass(frozen=True)
class Drain:
    """End; there is no reply."""
