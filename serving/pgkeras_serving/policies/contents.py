"""What is ready to be served at one moment."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable
from dataclasses import dataclass, field

from pgkeras.spaces.spec import PolicySpec
from pgkeras.v1 import policy_pb2, service_pb2
from pgkeras_serving.inference.batcher import Batcher
from pgkeras_serving.messages.act import PolicyCodec
from pgkeras_serving.messages.steps import Steps
from pgkeras_serving.telemetry.episodes import EpisodeLog
from pgkeras_serving.telemetry.metrics import Meter

__all__ = ["Contents", "LoadedPolicy"]

# In an error, which has to fit the trailers that clients take.
_MOST_NAMES, _MOST_VERSIONS = 5, 5


@dataclass(frozen=True)
class LoadedPolicy:
    """A version that is ready. It is retired by letting go of it: the last request that holds it takes it along.

    Args:
        spec: What it consumes and produces.
        codec: What decodes its requests and encodes its answers.
        steps: What decodes its sessions' messages.
        batcher: What computes it.
        version: Its name, version and spec hash, as answers carry them.
        description: The whole of it, as GetPolicy answers it.
        limits: What its calls are held to, likewise.
        digest: Of its files, as far as what it does depends on them.
        meter: What is counted about it.
        episodes: Those that are played with it in sessions.
    """

    spec: PolicySpec
    codec: PolicyCodec
    steps: Steps
    batcher: Batcher
    version: policy_pb2.PolicyVersion
    description: policy_pb2.Policy
    limits: service_pb2.Limits
    digest: bytes
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

    def listing(self, name: str) -> str:
        """What there is, for an error: all of it if it is little, else the names that are nearest to another."""
        names = list(self.policies)
        if len(names) > _MOST_NAMES:
            names = difflib.get_close_matches(name, names, n=_MOST_NAMES, cutoff=0.0)
        listed = ", ".join(f"{one} (version {_versions(self.policies[one])})" for one in names)
        return listed if len(names) == len(self.policies) else f"{listed} and {len(self.policies) - len(names)} more"


def _versions(found: Iterable[int]) -> str:
    """The newest versions, and how many others there are."""
    versions = sorted(found)
    shown = ", ".join(map(str, versions[-_MOST_VERSIONS:]))
    return shown if len(versions) <= _MOST_VERSIONS else f"{shown} and {len(versions) - _MOST_VERSIONS} older ones"
