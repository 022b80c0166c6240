"""What is ready to be served at one moment."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

from pgkeras.spaces.spec import PolicySpec
from pgkeras.v1 import policy_pb2, service_pb2
from pgkeras_serving.inference.batcher import Batcher
from pgkeras_serving.messages.act import Edge
from pgkeras_serving.messages.steps import Steps
from pgkeras_serving.telemetry.episodes import EpisodeLog
from pgkeras_serving.telemetry.metrics import Meter

__all__ = ["Contents", "LoadedPolicy"]


@dataclass(frozen=True)
class LoadedPolicy:
    """A version that is ready. It is retired by letting go of it: the last request that holds it takes it along.

    Args:
        spec: What it consumes and produces.
        edge: What decodes its requests and encodes its answers.
        steps: What decodes its sessions' messages.
        batcher: What computes it.
        version: Its name, version and spec hash, as answers carry them.
        description: The whole of it, as GetPolicy answers it.
        limits: What its calls are held to, likewise.
        meter: What is counted about it.
        episodes: Those that are played with it in sessions.
    """

    spec: PolicySpec
    edge: Edge
    steps: Steps
    batcher: Batcher
    version: policy_pb2.PolicyVersion
    description: policy_pb2.Policy
    limits: service_pb2.Limits
    meter: Meter
    episodes: EpisodeLog = field(default_factory=EpisodeLog)


@dataclass(frozen=True)
class Contents:
    """The policies that are ready at one moment.

    Args:
        policies: By name, then by version, both ascending.
        labels: Versions by policy name, then by label; all of them are ready.
        failures: Why other versions are not.
        by_reference: The policies that references were resolved to, by the bytes of the reference.
    """

    policies: dict[str, dict[int, LoadedPolicy]] = field(default_factory=dict)
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    by_reference: dict[bytes, LoadedPolicy] = field(default_factory=dict)

    @functools.cached_property
    def newest(self) -> dict[str, LoadedPolicy]:
        """The newest version by name. The empty name stands for the only policy, if there is only one."""
        newest = {name: found[max(found)] for name, found in self.policies.items()}
        return newest | ({"": next(iter(newest.values()))} if len(newest) == 1 else {})

    def __str__(self) -> str:
        return ", ".join(f"{name} (version {', '.join(map(str, found))})" for name, found in self.policies.items())
