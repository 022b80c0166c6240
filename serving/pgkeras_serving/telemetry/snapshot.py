"""Snapshot: all data of a server's pages and metrics at one moment, and the sum over several processes."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pgkeras.spaces.spec import PolicySpec
from pgkeras.v1 import policy_pb2
from pgkeras_serving.telemetry.episodes import EpisodeLog
from pgkeras_serving.telemetry.metrics import Meter
from pgkeras_serving.telemetry.run import RunStatus

__all__ = ["Snapshot", "VersionSnapshot", "merged"]


@dataclass(frozen=True)
class VersionSnapshot:
    """A loaded policy version.

    Args:
        description: Its description.
        spec: Its specification.
        queued: Number of queued observations.
        meter: Its counters.
        episodes: The episodes played in its sessions.
    """

    description: policy_pb2.Policy
    spec: PolicySpec
    queued: int
    meter: Meter
    episodes: EpisodeLog

    @property
    def name(self) -> str:
        """The policy's name."""
        return self.description.name

    @property
    def version(self) -> int:
        """The version's number."""
        return self.description.version


@dataclass(frozen=True)
class Snapshot:
    """The state of a server at one moment.

    Args:
        versions: The loaded policy versions, by name, then by version.
        labels: Versions by policy name, then by label.
        failures: Reasons why other versions are not served.
        sessions: Number of open sessions.
        requests: Number of calls that have ended, by method and status code.
        processes: Process IDs of the processes that answer calls.
        restarts: Number of restarts of these processes.
        run: The training run that learns from the sessions; None if policies are only served.
    """

    versions: Sequence[VersionSnapshot] = ()
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    failures: Sequence[str] = ()
    sessions: int = 0
    requests: dict[tuple[str, str], int] = field(default_factory=dict)
    processes: Sequence[int] = ()
    restarts: int = 0
    run: RunStatus | None = None


def merged(alive: Sequence[Snapshot], ended: Sequence[Snapshot] = (), restarts: int = 0) -> Snapshot:
    """Merges the snapshots of several processes that serve the same policies.

    Args:
        alive: Snapshots of the running processes. Versions and labels are taken from the first one that has versions.
        ended: The last snapshots of processes that have ended. With them, no counter decreases.
        restarts: Number of restarted processes.
    """
    if not alive:
        return Snapshot(restarts=restarts)
    first = next((snapshot for snapshot in alive if snapshot.versions), alive[0])
    requests: dict[tuple[str, str], int] = collections.defaultdict(int)
    for snapshot in [*alive, *ended]:
        for key, count in snapshot.requests.items():
            requests[key] += count
    running, over = _by_version(alive), _by_version(ended)
    return Snapshot(
        versions=[
            _summed(running[version.name, version.version], over[version.name, version.version])
            for version in first.versions
        ],
        labels=first.labels,
        failures=sorted({reason for snapshot in alive for reason in snapshot.failures}),
        sessions=sum(snapshot.sessions for snapshot in alive),
        requests=dict(requests),
        processes=[number for snapshot in alive for number in snapshot.processes],
        restarts=restarts,
    )


def _by_version(snapshots: Iterable[Snapshot]) -> dict[tuple[str, int], list[VersionSnapshot]]:
    found: dict[tuple[str, int], list[VersionSnapshot]] = collections.defaultdict(list)
    for snapshot in snapshots:
        for version in snapshot.versions:
            found[version.name, version.version].append(version)
    return found


def _summed(alive: Sequence[VersionSnapshot], ended: Sequence[VersionSnapshot]) -> VersionSnapshot:
    """Merges the snapshots of one version.

    If the version was replaced by another policy in place, the counts of the old one are left out.
    """
    first = alive[0]
    counted = [one for one in [*alive, *ended] if one.description.spec_hash == first.description.spec_hash]
    meter = Meter.merged(first.spec, [one.meter for one in counted])
    meter.sessions = sum(one.meter.sessions for one in alive)  # sessions end with their process
    queued = sum(one.queued for one in alive)
    episodes = EpisodeLog.merged([one.episodes for one in counted])
    return VersionSnapshot(first.description, first.spec, queued, meter, episodes)
