"""The data of the status page, before it is rendered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pgkeras_serving.telemetry.episodes import EpisodeSummary
from pgkeras_serving.telemetry.last_minute import Recent
from pgkeras_serving.telemetry.run import RunStatus
from pgkeras_serving.telemetry.snapshot import VersionSnapshot

__all__ = ["Status", "VersionStatus"]


@dataclass(frozen=True)
class VersionStatus:
    """The page's data about one version.

    Args:
        policy: The version.
        labels: Its labels.
        recent: How it fared in the last minute.
        episodes: The episodes played with it.
        returns: The returns of the last of them, the oldest first.
    """

    policy: VersionSnapshot
    labels: list[str]
    recent: Recent
    episodes: EpisodeSummary
    returns: list[float]

    @property
    def number(self) -> int:
        """The version's number."""
        return self.policy.version

    @property
    def is_at_work(self) -> bool:
        """Whether it did anything in the last minute, or has played episodes."""
        return bool(any(self.recent.history) or self.returns)


@dataclass(frozen=True)
class Status:
    """The page's data about the server.

    Args:
        state: "serving", "loading" or "draining".
        target: Where it listens.
        uptime: Seconds since its start.
        release: pgkeras' version.
        sessions: How many are open.
        requests: Calls that have ended, by method and code.
        failures: Why versions are not served.
        versions: Those that are, by name, then by version.
        processes: How many processes answer calls.
        restarts: How many of them had to be started again.
        run: The run that learns here; None where policies are served.
    """

    state: str
    target: str
    uptime: float
    release: str
    sessions: int
    requests: dict[tuple[str, str], int]
    failures: Sequence[str]
    versions: list[VersionStatus]
    processes: int = 1
    restarts: int = 0
    run: RunStatus | None = None
