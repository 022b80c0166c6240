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
        recent: Its load and latency in the last minute.
        episodes: Summary of the episodes played with it.
        returns: Returns of the last episodes, oldest first.
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
    def is_active(self) -> bool:
        """Whether it answered calls in the last minute, or has played episodes."""
        return bool(any(self.recent.history) or self.returns)


@dataclass(frozen=True)
class Status:
    """The page's data about the server.

    Args:
        state: "serving", "loading" or "draining".
        target: Address of the gRPC server.
        uptime: Seconds since its start.
        release: Version of pgkeras.
        sessions: Number of open sessions.
        requests: Number of calls that have ended, by method and code.
        failures: Reasons why versions are not served.
        versions: The served versions, by name, then by version.
        processes: Number of processes that answer calls.
        restarts: Number of restarts of these processes.
        run: The training run that learns from sessions; None if policies are only served.
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
