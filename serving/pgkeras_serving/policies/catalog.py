"""Catalog: loads and warms up the policy versions under the served directory, and follows changes there."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgkeras import engines
from pgkeras.bundle import bundle as bundles
from pgkeras.bundle.labels import read_labels
from pgkeras.cores import available
from pgkeras.errors import BundleError, CorruptBundleError, PgkerasError
from pgkeras.files import stamp
from pgkeras.protocol.wire import encode_spec
from pgkeras.v1 import policy_pb2
from pgkeras_serving.inference.batcher import Batcher
from pgkeras_serving.inference.cores import Cores
from pgkeras_serving.inference.warmup import Sizes, warm_up
from pgkeras_serving.inference.workers import Workers
from pgkeras_serving.messages.act import PolicyCodec
from pgkeras_serving.messages.steps import Steps
from pgkeras_serving.policies.contents import Contents, LoadedPolicy
from pgkeras_serving.policies.limits import limits
from pgkeras_serving.settings.config import ServerConfig
from pgkeras_serving.telemetry.logs import about
from pgkeras_serving.telemetry.metrics import Meter

__all__ = ["Catalog"]

logger = logging.getLogger(__name__)

# Pause between the steps of loading a version while others are served. Without pauses, the scheduler would give the
# loading thread slices of several milliseconds, during which calls wait.
_REST_SECONDS = 0.002


@dataclass
class _Failure:
    """A version that failed to load. It is tried again when ``files`` changes."""

    files: Hashable
    reason: str


class Catalog:
    """The versions and labels under a directory. Not thread-safe; its methods block.

    Args:
        config: The served directory, and how to run policies.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._cores = Cores(max(1, available() // config.workers_wanted))
        self._versions: dict[Path, tuple[Hashable, LoadedPolicy]] = {}
        self._failures: dict[Path, _Failure] = {}
        self._contents = Contents()
        self._reported: dict[Path, str] = {}
        self._sizes: dict[Hashable, Sizes] = {}
        self._is_closed = False
        self._has_scanned = False

    def close(self) -> None:
        """Stops a :meth:`scan` in another thread after the version that it is loading."""
        self._is_closed = True

    def scan(self) -> Contents:
        """Loads, verifies and warms up new and replaced versions, and drops deleted ones.

        A version that fails to load is skipped and logged once. Because it may be incomplete while it is being copied,
        later scans log it only if its files did not change since the scan before. If all versions disappear, the ones
        loaded before stay in service, because this is most likely a mistake.

        Raises:
            BundleNotFoundError: The directory has never had a version.
            BundleError: The catalog has been closed.
        """
        is_first, self._has_scanned = not self._has_scanned, True
        rest_seconds = _REST_SECONDS if self._versions else 0.0
        try:
            labels = {path: self._read_labels(path) for path in {p.parent for p in _version_directories(self._config)}}
            paths = _version_directories(self._config)  # after the labels, to include the versions that they name
        except BundleError as error:
            if not self._versions:
                raise
            self._report(self._config.root, f"still serving the versions loaded before: {error}")
            return self._unchanged([])
        for path in paths:
            if self._is_closed:
                raise BundleError("the server is stopping, so no more policies are loaded")
            self._follow(path, is_first, rest_seconds)
        stamps = {path: _stamp(path) for path in paths}
        gone = [path for path in self._versions if stamps.get(path) is None]
        if len(gone) == len(self._versions) > 0:
            root = self._config.root
            self._report(root, f"still serving the versions loaded before: {root} has no version that loads")
            if not self._contents.policies:  # the versions disappeared during the first scan
                self._contents = self._collect(gone, labels)
            return self._unchanged(paths)
        self._reported.pop(self._config.root, None)
        for path in gone:
            logger.info("%s was deleted and takes no new requests", path, extra=_about(path))
            del self._versions[path]
        self._forget_failures(paths)
        self._contents = self._collect(paths, labels)
        return self._contents

    def _unchanged(self, paths: list[Path]) -> Contents:
        """Returns the contents of the last scan, with the failures of the versions that exist now."""
        self._forget_failures(paths)
        self._contents = dataclasses.replace(self._contents, failures=self._reasons())
        return self._contents

    def _forget_failures(self, paths: list[Path]) -> None:
        for path in set(self._failures).difference(paths):
            del self._failures[path]
            self._reported.pop(path, None)

    def _reasons(self) -> list[str]:
        return [failure.reason for failure in self._failures.values()]

    def _follow(self, path: Path, is_first: bool, rest_seconds: float) -> None:
        found = _stamp(path)
        if path in self._versions and self._versions[path][0] == found:
            return
        files, failure = _files(path), self._failures.get(path)
        if failure is not None and failure.files == files:
            self._report(path, f"not serving {path}: {failure.reason}")
            return
        try:
            self._versions[path] = (found, self._load(path, rest_seconds))
        except Exception as error:  # a broken version must not affect the others
            reason = str(error) if isinstance(error, PgkerasError) else repr(error)
            self._failures[path] = _Failure(files, reason)
            if is_first:
                self._report(path, f"not serving {path}: {reason}")
        else:
            self._failures.pop(path, None)
            self._reported.pop(path, None)
            logger.info("%s is ready", path, extra=_about(path))

    def _load(self, path: Path, rest_seconds: float) -> LoadedPolicy:
        name, version = path.parent.name, int(path.name)
        config = self._config.of_policy(name)
        root, real = self._config.root.resolve(), path.resolve()
        if not real.is_relative_to(root):
            raise CorruptBundleError(
                f"{path}: a symbolic link that leads out of {root}; copy the version there instead"
            )
        bundle = bundles.open_bundle(real)
        identity = policy_pb2.PolicyVersion(name=name, version=version, spec_hash=bundle.spec_hash)
        digest = bundle.digest
        codec = PolicyCodec(bundle.spec, identity, config.max_batch_size, digest)
        time.sleep(rest_seconds)
        engine = engines.load(bundle, config.engine)  # from here on, the files are no longer needed
        graph = _graph(bundle, digest, engine, config)
        sizes = warm_up(engine, bundle.spec, config.max_batch_size, rest_seconds, self._sizes.get(graph))
        self._sizes[graph] = sizes
        meter = Meter(bundle.spec)
        workers = Workers(f"{name} version {version}", engine, sizes, config.max_engines, self._cores, meter)
        batcher = Batcher(engine, sizes, workers, config.max_queued, config.max_queue_seconds, meter)
        description = policy_pb2.Policy(
            name=name, version=version, spec=encode_spec(bundle.spec), spec_hash=bundle.spec_hash, engine=engine.name
        )
        description.load_time.GetCurrentTime()
        description.provenance.update(bundle.provenance)
        what = bundle.spec, codec, Steps(codec), batcher, identity, description
        return LoadedPolicy(*what, limits(config), digest, meter)

    def _read_labels(self, policy_dir: Path) -> dict[str, int] | None:
        try:
            labels = read_labels(policy_dir)
        except BundleError as error:
            self._report(policy_dir, f"labels stay as they were: {error}")
            return None
        self._reported.pop(policy_dir, None)
        return labels

    def _collect(self, paths: list[Path], labels: dict[Path, dict[str, int] | None]) -> Contents:
        contents = Contents(failures=self._reasons())
        for path in paths:
            if path in self._versions:
                contents.policies.setdefault(path.parent.name, {})[int(path.name)] = self._versions[path][1]
        alone = self._config.root.resolve()
        for policy_dir, wanted in labels.items():
            name, own = policy_dir.name, wanted
            if wanted is not None and alone in paths:  # a single version is served: ignore the labels of others
                own = {label: version for label, version in wanted.items() if version == int(alone.name)}
            contents.labels[name] = self._ready_labels(policy_dir, own, contents.policies.get(name, {}))
        return contents

    def _ready_labels(
        self, policy_dir: Path, wanted: dict[str, int] | None, ready: dict[int, LoadedPolicy]
    ) -> dict[str, int]:
        """Returns the wanted labels. A label whose version is not ready keeps its previous version."""
        before = self._contents.labels.get(policy_dir.name, {})
        labels = {}
        for label, version in (before if wanted is None else wanted).items():
            key = policy_dir / label
            if version in ready:
                labels[label] = version
                self._reported.pop(key, None)
                continue
            self._report(key, f"label {label} of {policy_dir} does not move to version {version}, which is not ready")
            if before.get(label) in ready:
                labels[label] = before[label]
        return labels

    def _report(self, where: Path, message: str) -> None:
        """Logs a message, once until another is reported for the same path."""
        if self._reported.get(where) != message:
            self._reported[where] = message
            logger.error("%s", message, extra=_about(where))


def _version_directories(config: ServerConfig) -> list[Path]:
    """Returns the version directories. The root may hold policies, hold versions, or be a version itself."""
    root = config.root.resolve()
    try:
        if names := bundles.policy_names(root):
            return [root / name / str(version) for name in names for version in bundles.versions(root / name)]
        if versions := bundles.versions(root):
            return [root / str(version) for version in versions]
        if root.name in map(str, bundles.versions(root.parent)):
            return [root]
    except OSError as error:
        raise BundleError(f"cannot read {root}: {error.strerror}") from error
    raise bundles.not_found(config.root, "expected <policy name>/<version> directories")


def _graph(bundle: bundles.Bundle, digest: bytes, engine: engines.Engine, config: ServerConfig) -> Hashable:
    """Returns a key that is equal for policies with the same run time: the same network, with any weights."""
    size = None if bundle.flatbuffer is None else bundle.flatbuffer.stat().st_size
    return bundle.spec_hash, engine.name, size, digest if size is None else None, config.max_batch_size


def _stamp(path: Path) -> Hashable | None:
    """Returns a value that changes when a version is replaced, or None if it was deleted."""
    return stamp(path / bundles.MANIFEST)


def _about(path: Path) -> dict[str, Any]:
    """Returns the log fields for the path of a version, a policy, or a label."""
    if path.name.isdigit():
        return about(policy=path.parent.name, version=int(path.name))
    return about(policy=path.name) if path.is_dir() else about(policy=path.parent.name, label=path.name)


def _files(path: Path) -> Hashable:
    """Returns a value that changes while a version's files are being copied or repaired."""
    try:
        found = [(file, file.lstat()) for file in path.rglob("*")]
    except OSError:  # the files are changing right now
        return object()
    return tuple(sorted((str(file), entry.st_size, entry.st_mtime_ns, entry.st_ctime_ns) for file, entry in found))
