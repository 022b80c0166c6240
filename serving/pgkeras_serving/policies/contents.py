"""Snapshot of the loaded policies."""

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

# In an error message, because gRPC clients limit the size of trailers.
_MAX_NAMES, _MAX_VERSIONS = 5, 5


@dataclass(frozen=True)
class LoadedPolicy:
    """A loaded policy version. It is garbage-collected when it is no longer served and its last request is done.

    Args:
        spec: The policy's specification.
        codec: Decodes requests and encodes responses.
        steps: Decodes the messages of sessions.
        batcher: Computes actions.
        version: Name, version and spec hash, as responses carry them.
        description: The description that GetPolicy returns.
        limits: The limits that GetPolicy returns.
        digest: Hash of the files that determine the policy's behavior.
        meter: The policy's metrics.
        episodes: The episodes played in its sessions.
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
    """An immutable snapshot of the loaded policies.

    Args:
        policies: Policies by name, then by version, both ascending.
        labels: Versions by policy name, then by label. All of these versions are loaded.
        failures: Reasons why other versions are not loaded.
        by_reference: Cache of resolved policies, by the encoded reference.
    """

    policies: dict[str, dict[int, LoadedPolicy]] = field(default_factory=dict)
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    by_reference: dict[bytes, LoadedPolicy] = field(default_factory=dict)

    @functools.cached_property
    def newest(self) -> dict[str, LoadedPolicy]:
        """The newest version of each policy by name. If there is only one policy, the empty name maps to it as well."""
        newest = {name: found[max(found)] for name, found in self.policies.items()}
        return newest | ({"": next(iter(newest.values()))} if len(newest) == 1 else {})

    def listing(self, name: str) -> str:
        """Lists the policies for an error message. If there are many, lists those with names similar to ``name``."""
        names = list(self.policies)
        if len(names) > _MAX_NAMES:
            names = difflib.get_close_matches(name, names, n=_MAX_NAMES, cutoff=0.0)
        listed = ", ".join(f"{one} (version {_versions(self.policies[one])})" for one in names)
        return listed if len(names) == len(self.policies) else f"{listed} and {len(self.policies) - len(names)} more"


def _versions(found: Iterable[int]) -> str:
    """Lists the newest versions and the number of older ones."""
    versions = sorted(found)
    shown = ", ".join(map(str, versions[-_MAX_VERSIONS:]))
    return shown if len(versions) <= _MAX_VERSIONS else f"{shown} and {len(versions) - _MAX_VERSIONS} older ones"
