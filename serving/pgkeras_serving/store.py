"""Store: the policies under a directory, loaded, warmed and found by name and version."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pgkeras import bundle as bundles
from pgkeras import engines
from pgkeras.errors import (
    BundleError,
    BundleNotFoundError,
    PgkerasError,
    PolicyNotFoundError,
    ServerUnavailableError,
)
from pgkeras.labels import read_labels
from pgkeras.spec import PolicySpec
from pgkeras.v1 import policy_pb2
from pgkeras.wire import encode_spec
from pgkeras_serving.act import Edge
from pgkeras_serving.batcher import Batcher, warm_up
from pgkeras_serving.config import ServerConfig

__all__ = ["LoadedPolicy", "Store"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedPolicy:
    """A version that is ready.

    Args:
        spec: What it consumes and produces.
        edge: What decodes its requests and encodes its answers.
        batcher: What computes it.
        version: Its name, version and spec hash, as answers carry them.
        description: The whole of it, as GetPolicy answers it.
    """

    spec: PolicySpec
    edge: Edge
    batcher: Batcher
    version: policy_pb2.PolicyVersion
    description: policy_pb2.Policy


class _Table:
    """Everything that is ready, by name, then by version, both ascending; the newest version of each name; the labels.

    The empty name stands for the only policy, if there is only one.
    """

    def __init__(
        self, policies: Mapping[str, Mapping[int, LoadedPolicy]], labels: Mapping[str, Mapping[str, int]]
    ) -> None:
        self.policies = policies
        self.labels = labels
        self.newest = {name: found[max(found)] for name, found in policies.items()}
        if len(policies) == 1:
            (self.newest[""],) = self.newest.values()

    def __str__(self) -> str:
        return ", ".join(f"{name} (version {', '.join(map(str, found))})" for name, found in self.policies.items())


class Store:
    """Finds, verifies and loads policies, and resolves references to them.

    A policy's name and version are those of its directories, so that copying or renaming a directory is enough to
    publish a policy under another name.

    Args:
        config: Where the policies are and how to run them.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._table = _Table({}, {})  # replaced as a whole, never changed, so that a reader needs no lock

    def load(self) -> None:
        """Loads every version under the root; blocks. One that is broken is reported in the log and left out.

        Raises:
            BundleNotFoundError: There is none.
            BundleError: None could be loaded.
        """
        policies: dict[str, dict[int, LoadedPolicy]] = {}
        directories: dict[str, Path] = {}
        failures = []
        for path in _version_directories(self._config.root):
            try:
                policy = self._load_version(path)
            except PgkerasError as error:
                failures.append(str(error))
                logger.error("not serving %s: %s", path, error)
            else:
                directories[path.parent.name] = path.parent
                policies.setdefault(path.parent.name, {})[int(path.name)] = policy
        if not policies:
            raise BundleError(f"no policy under {self._config.root} can be served: {'; '.join(failures)}")
        labels = {name: _ready_labels(directories[name], found) for name, found in policies.items()}
        self._table = _Table(policies, labels)

    def close(self) -> None:
        """Lets go of every policy's thread."""
        for policy in self.policies():
            policy.batcher.close()

    def policies(self) -> list[LoadedPolicy]:
        """Everything that is ready, by name, then by version."""
        return [policy for found in self._table.policies.values() for policy in found.values()]

    def resolve(self, ref: policy_pb2.PolicyRef) -> LoadedPolicy:
        """The policy that a reference means: the newest version unless it names one; the only policy if it names none.

        Raises:
            PolicyNotFoundError: There is no such policy, version or label; the message lists what there is.
            ServerUnavailableError: Nothing is loaded yet.
        """
        table, name = self._table, ref.name
        select = ref.WhichOneof("select")
        newest = table.newest.get(name)
        if newest is not None and select is None:
            return newest
        if not table.policies:
            raise ServerUnavailableError("the server is still loading its policies; try again in a moment")
        if newest is None and not name:
            raise PolicyNotFoundError(f"several policies are served, so a name is needed: {table}")
        if newest is None:
            raise PolicyNotFoundError(f"no policy {name!r}; there is: {table}")
        name = newest.version.name
        if select == "label":
            return table.policies[name][_labelled(table, name, ref.label)]
        policy = table.policies[name].get(ref.version)
        if policy is None:
            raise PolicyNotFoundError(f"policy {name!r} has no version {ref.version}; there is: {table}")
        return policy

    def _load_version(self, path: Path) -> LoadedPolicy:
        bundle = bundles.open_bundle(path)
        engine = engines.load(bundle, self._config.engine)
        inline_rows = warm_up(engine, bundle.spec, self._config.max_batch_size)
        batcher = Batcher(engine, inline_rows, self._config.max_batch_size, self._config.max_queued)
        name, version = path.parent.name, int(path.name)
        description = policy_pb2.Policy(
            name=name, version=version, spec=encode_spec(bundle.spec), spec_hash=bundle.spec_hash, engine=engine.name
        )
        description.load_time.GetCurrentTime()
        description.provenance.update(bundle.provenance)
        identity = policy_pb2.PolicyVersion(name=name, version=version, spec_hash=bundle.spec_hash)
        edge = Edge(bundle.spec, identity, self._config.max_batch_size)
        return LoadedPolicy(bundle.spec, edge, batcher, identity, description)


def _labelled(table: _Table, name: str, label: str) -> int:
    labels = table.labels[name]
    if label not in labels:
        there = ", ".join(f"{label} (version {version})" for label, version in labels.items()) or "none"
        raise PolicyNotFoundError(f"policy {name!r} has no label {label!r}; its labels: {there}")
    return labels[label]


def _ready_labels(policy_dir: Path, found: Mapping[int, LoadedPolicy]) -> dict[str, int]:
    try:
        labels = read_labels(policy_dir)
    except BundleError as error:
        logger.error("labels are left out: %s", error)
        return {}
    for label, version in labels.items():
        if version not in found:
            logger.error("label %s of %s is left out: its version %d is not served", label, policy_dir, version)
    return {label: version for label, version in labels.items() if version in found}


def _version_directories(root: Path) -> list[Path]:
    """Version directories under a directory of policies, under one policy's, or the one that it is itself."""
    root = root.resolve()
    try:
        if names := bundles.policy_names(root):
            return [root / name / str(version) for name in names for version in bundles.versions(root / name)]
        if versions := bundles.versions(root):
            return [root / str(version) for version in versions]
        if root.name in map(str, bundles.versions(root.parent)):
            return [root]
    except OSError as error:
        raise BundleError(f"cannot read {root}: {error.strerror}") from error
    raise BundleNotFoundError(
        f"no exported policy under {root}: expected <policy name>/<version> directories; make one with: "
        "pgkeras train ENV"
    )
