"""Catalog: loads and warms up the policy versions under the served directory, and follows its changes."""

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

# While others are served, loading a version rests so long again and again. To whoever works on end the scheduler gives
# slices of milliseconds, for which a call would have to wait.
_REST_SECONDS = 0.002


@dataclass
class _Failure:
    """A version that did not load, and what its files were like then: it is tried again when they change."""

    files: Hashable
    reason: str


class Catalog:
    """Keeps the versions and labels under a directory. For one thread at a time, which may be held up.

    Args:
        config: Where the policies are and how to run them.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._cores = Cores(max(1, available() // config.workers_wanted))
        self._versions: dict[Path, tuple[Hashable, LoadedPolicy]] = {}
        self._failures: dict[Path, _Failure] = {}
        self._contents = Contents()
        self._told: dict[Path, str] = {}
        self._sizes: dict[Hashable, Sizes] = {}
        self._is_closed = False
        self._has_looked = False

    def close(self) -> None:
        """Ends a look that is under way in another thread when it has loaded the version that it is at."""
        self._is_closed = True

    def look(self) -> Contents:
        """Loads, verifies and warms what is new or replaced, and lets go of what is gone.

        A version that does not load is left out and reported in the log once. It may be one that is just being copied:
        so, but for the very first look, it is reported when its files have not changed between two looks. A directory
        without any version is taken for a mishap: what was there before stays.

        Raises:
            BundleNotFoundError: There is no version and has never been one.
            BundleError: The catalog has been closed.
        """
        is_first, self._has_looked = not self._has_looked, True
        rest_seconds = _REST_SECONDS if self._versions else 0.0
        try:
            labels = {path: self._read_labels(path) for path in {p.parent for p in _version_directories(self._config)}}
            paths = _version_directories(self._config)  # after the labels, so that what they name is among them
        except BundleError as error:
            if not self._versions:
                raise
            self._tell(self._config.root, f"serving on with what was there before: {error}")
            return self._unchanged([])
        for path in paths:
            if self._is_closed:
                raise BundleError("the server is stopping, so no more policies are loaded")
            self._follow(path, is_first, rest_seconds)
        stamps = {path: _stamp(path) for path in paths}
        gone = [path for path in self._versions if stamps.get(path) is None]
        if len(gone) == len(self._versions) > 0:
            root = self._config.root
            self._tell(root, f"serving on with what was there before: {root} has no version that loads")
            if not self._contents.policies:  # it was there but for the time of loading it
                self._contents = self._collect(gone, labels)
            return self._unchanged(paths)
        self._told.pop(self._config.root, None)
        for path in gone:
            logger.info("%s is gone: it takes no new requests", path, extra=_about(path))
            del self._versions[path]
        self._forget_failures(paths)
        self._contents = self._collect(paths, labels)
        return self._contents

    def _unchanged(self, paths: list[Path]) -> Contents:
        """What was served before; but of versions that do not load, those that lie under the directory now."""
        self._forget_failures(paths)
        self._contents = dataclasses.replace(self._contents, failures=self._reasons())
        return self._contents

    def _forget_failures(self, paths: list[Path]) -> None:
        for path in set(self._failures).difference(paths):
            del self._failures[path]
            self._told.pop(path, None)

    def _reasons(self) -> list[str]:
        return [failure.reason for failure in self._failures.values()]

    def _follow(self, path: Path, is_first: bool, rest_seconds: float) -> None:
        found = _stamp(path)
        if path in self._versions and self._versions[path][0] == found:
            return
        files, failure = _files(path), self._failures.get(path)
        if failure is not None and failure.files == files:
            self._tell(path, f"not serving {path}: {failure.reason}")
            return
        try:
            self._versions[path] = (found, self._load(path, rest_seconds))
        except Exception as error:  # whatever is wrong with one version, the others are served
            reason = str(error) if isinstance(error, PgkerasError) else repr(error)
            self._failures[path] = _Failure(files, reason)
            if is_first:
                self._tell(path, f"not serving {path}: {reason}")
        else:
            self._failures.pop(path, None)
            self._told.pop(path, None)
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
        engine = engines.load(bundle, config.engine)  # the files are not needed any more
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
            self._tell(policy_dir, f"labels stay as they were: {error}")
            return None
        self._told.pop(policy_dir, None)
        return labels

    def _collect(self, paths: list[Path], labels: dict[Path, dict[str, int] | None]) -> Contents:
        contents = Contents(failures=self._reasons())
        for path in paths:
            if path in self._versions:
                contents.policies.setdefault(path.parent.name, {})[int(path.name)] = self._versions[path][1]
        alone = self._config.root.resolve()
        for policy_dir, wanted in labels.items():
            name, own = policy_dir.name, wanted
            if wanted is not None and alone in paths:  # one version is served, whatever labels others have
                own = {label: version for label, version in wanted.items() if version == int(alone.name)}
            contents.labels[name] = self._ready_labels(policy_dir, own, contents.policies.get(name, {}))
        return contents

    def _ready_labels(
        self, policy_dir: Path, wanted: dict[str, int] | None, ready: dict[int, LoadedPolicy]
    ) -> dict[str, int]:
        """The labels as they are wanted, but one whose version is not ready stays where it was."""
        before = self._contents.labels.get(policy_dir.name, {})
        labels = {}
        for label, version in (before if wanted is None else wanted).items():
            key = policy_dir / label
            if version in ready:
                labels[label] = version
                self._told.pop(key, None)
                continue
            self._tell(key, f"label {label} of {policy_dir} does not move to version {version}, which is not ready")
            if before.get(label) in ready:
                labels[label] = before[label]
        return labels

    def _tell(self, where: Path, message: str) -> None:
        if self._told.get(where) != message:
            self._told[where] = message
            logger.error("%s", message, extra=_about(where))


def _version_directories(config: ServerConfig) -> list[Path]:
    """Version directories under a directory of policies, under one policy's, or the one that it is itself."""
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
    """A value that is the same for policies which take the same time: networks of one shape, with any weights."""
    size = None if bundle.flatbuffer is None else bundle.flatbuffer.stat().st_size
    return bundle.spec_hash, engine.name, size, digest if size is None else None, config.max_batch_size


def _stamp(path: Path) -> Hashable | None:
    """A value that changes when a version is replaced; None if the version is gone."""
    return stamp(path / bundles.MANIFEST)


def _about(path: Path) -> dict[str, Any]:
    """The log's fields for a version's directory, a policy's, or a label of one."""
    if path.name.isdigit():
        return about(policy=path.parent.name, version=int(path.name))
    return about(policy=path.name) if path.is_dir() else about(policy=path.parent.name, label=path.name)


def _files(path: Path) -> Hashable:
    """A value that changes while a version's files are being copied or repaired."""
    try:
        found = [(file, file.lstat()) for file in path.rglob("*")]
    except OSError:  # it is changing under our eyes
        return object()
    return tuple(sorted((str(file), entry.st_size, entry.st_mtime_ns, entry.st_ctime_ns) for file, entry in found))
