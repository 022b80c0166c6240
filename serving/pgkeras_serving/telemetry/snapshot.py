"""Snapshot: all that a server's pages and metrics tell, at one moment; and the sum of those of several processes."""

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
    """A policy version that is ready.

    Args:
        description: What it is.
        spec: What it consumes and produces.
        queued: Observations that wait for it.
        meter: What is counted about it.
        episodes: Those played with it in sessions.
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
    """A server at one moment.

    Args:
        versions: The policy versions that are ready, by name, then by version.
        labels: Versions by policy's name, then by label.
        failures: Why other versions are not served.
        sessions: How many are open.
        requests: Calls that have ended, by method and status code.
        processes: The processes that answer calls, by their numbers.
        restarts: How many of them had to be started again.
        run: The run that learns from the sessions; None where policies are served.
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
    """The sum of the snapshots of several processes that serve the same policies.

    Args:
        alive: Of those that run. What there is, the first one tells that has told of any version.
        ended: The last ones of those that do not run any more, so that no counter goes back.
        restarts: How many of the processes had to be started again.
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
    """The sum of what several processes tell of one version.

    It may have been replaced in place: what was counted of another policy, with other actions, is none of its.
    """
    first = alive[0]
    counted = [one for one in [*alive, *ended] if one.description.spec_hash == first.description.spec_hash]
    meter = Meter.merged(first.spec, [one.meter for one in counted])
    meter.sessions = sum(one.meter.sessions for one in alive)  # those of a process that has ended are over
    queued = sum(one.queued for one in alive)
    episodes = EpisodeLog.merged([one.episodes for one in counted])
    return VersionSnapshot(first.description, first.spec, queued, meter, episodes)
