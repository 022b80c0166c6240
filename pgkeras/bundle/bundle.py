"""Bundle: an exported policy on disk, read and published without TensorFlow.

::

    <root>/<policy name>/<version>/            version: a positive integer, as TensorFlow Serving expects
      saved_model.pb  variables/  fingerprint.pb
      assets.extra/pgkeras/policy.json         schema version, spec, spec hash, file digests, provenance
      assets.extra/pgkeras/policy.tflite       the act graph as a LiteRT flatbuffer, when it converts

A bundle appears whole or not at all: it is written under a hidden name beside its destination, flushed to disk, and
renamed. Reading checks every file's size and SHA-256, and that no other file lies where one would be loaded from.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pgkeras.errors import (
    BundleNotFoundError,
    ConfigError,
    CorruptBundleError,
    ExportError,
    NewerBundleError,
    PgkerasError,
    UnsupportedSpaceError,
)
from pgkeras.protocol.wire import spec_from_json, spec_hash, spec_to_json
from pgkeras.spaces.spec import PolicySpec

__all__ = ["Bundle", "Draft", "check_name", "draft", "find", "not_found", "open_bundle", "policy_names", "versions"]

SCHEMA_VERSION = 1
EXTRA = Path("assets.extra/pgkeras")
MANIFEST = EXTRA / "policy.json"
FLATBUFFER = EXTRA / "policy.tflite"

_MAX_MANIFEST_BYTES = 16 * 2**20
_MAX_FILE_BYTES = 2 * 2**30
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# Where TensorFlow and LiteRT would read what lies there: TensorFlow prefers saved_model.cpb, if there is one.
_READ = (
    "saved_model.*",
    "fingerprint.pb",
    *(f"{place}{below}" for place in ("variables", "assets", EXTRA) for below in ("", "/**/*")),
)
_VERSION = re.compile(r"[1-9][0-9]{0,17}")


@dataclass(frozen=True)
class Bundle:
    """An exported policy whose files have been checked.

    Args:
        path: The version's directory.
        name: The policy's name.
        version: Its version.
        spec: What it consumes and produces.
        spec_hash: Hexadecimal SHA-256 of the spec.
        provenance: Where it comes from: environment id, seed, configuration, package versions, returns.
        files: Size in bytes by relative path.
    """

    path: Path
    name: str
    version: int
    spec: PolicySpec
    spec_hash: str
    provenance: dict[str, Any]
    files: dict[str, int]

    def __repr__(self) -> str:
        return f"<Bundle {self.name} version {self.version} at {self.path}>"

    @property
    def digest(self) -> bytes:
        """SHA-256 of the manifest, and so of all that the bundle is made of."""
        return hashlib.sha256((self.path / MANIFEST).read_bytes()).digest()

    @property
    def flatbuffer(self) -> Path | None:
        """The LiteRT flatbuffer, or None when the policy did not convert."""
        return self.path / FLATBUFFER if FLATBUFFER.as_posix() in self.files else None


def check_name(name: str) -> str:
    """Returns the name if it is a valid policy name.

    Raises:
        ConfigError: It is not 1 to 128 letters, digits, '.', '_' and '-', beginning with a letter or digit.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"policy name {name!r}: expected 1 to 128 letters, digits, '.', '_' or '-', "
            "beginning with a letter or digit (such as 'cartpole-v1')"
        )
    return name


def policy_names(root: Path) -> list[str]:
    """Names of the policy directories under ``root``, sorted; empty when there is no such directory."""
    if not root.is_dir():
        return []
    return sorted(entry.name for entry in root.iterdir() if _NAME.fullmatch(entry.name) and versions(entry))


def versions(policy_dir: Path) -> list[int]:
    """Versions present under a policy's directory, ascending; empty when there is no such directory."""
    if not policy_dir.is_dir():
        return []
    return sorted(
        int(entry.name) for entry in policy_dir.iterdir() if _VERSION.fullmatch(entry.name) and entry.is_dir()
    )


def find(path: Path) -> Path:
    """The version directory that ``path`` means: itself, the newest version of a policy, or of a root's only policy.

    Raises:
        BundleNotFoundError: There is none, or a root holds several policies.
    """
    if (path / MANIFEST).exists():
        return path
    if found := versions(path):
        return path / str(found[-1])
    names = policy_names(path)
    if len(names) == 1:
        return find(path / names[0])
    if names:
        raise BundleNotFoundError(
            f"{path} holds several policies ({', '.join(names)}): name one, as in {path / names[0]}"
        )
    raise not_found(path, f"expected a directory with {MANIFEST}, or one of numbered versions")


def not_found(path: Path, expected: str) -> BundleNotFoundError:
    """The error that there is no policy at a path, by what is there.

    Args:
        path: The path.
        expected: What would have been right, if something else is there.
    """
    if not path.exists():
        there = versions(path.parent) if _VERSION.fullmatch(path.name) else []
        known = f"; {path.parent} has version {', '.join(map(str, there))}" if there else ""
        return BundleNotFoundError(f"no exported policy at {path}: there is no such path{known}")
    runs = [run for run in (path, *sorted(path.iterdir() if path.is_dir() else ())) if (run / "checkpoints").is_dir()]
    if runs:
        what = "that is a run" if runs[0] == path else "that is a directory of runs"
        return BundleNotFoundError(f"no exported policy at {path}: {what}; export one with: pgkeras export {runs[0]}")
    return BundleNotFoundError(f"no exported policy at {path}: {expected}; make one with: pgkeras train ENV")


def open_bundle(path: Path, *, ignore_added: bool = False) -> Bundle:
    """Reads a version directory, checks every file against its digest, and that none has been added.

    Files that nothing loads, such as a README and hidden ones, may lie in it.

    Args:
        path: The directory.
        ignore_added: Whether added files do not matter, as nothing but the listed ones is going to be read.

    Raises:
        BundleNotFoundError: There is no manifest at that path, or the directory goes while it is read.
        NewerBundleError: Its schema version is newer than this pgkeras.
        CorruptBundleError: The manifest is malformed, or a file is missing, changed, added, oversized, or not a plain
            file.
    """
    manifest = _read_manifest(path)
    try:
        schema = int(manifest["schema_version"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CorruptBundleError(f"{path / MANIFEST}: no integer schema_version") from error
    if schema > SCHEMA_VERSION:
        raise NewerBundleError(
            f"{path}: bundle schema {schema} is newer than this pgkeras, which reads up to {SCHEMA_VERSION}: "
            "upgrade with: pip install -U pgkeras"
        )
    try:
        name, version = check_name(manifest["name"]), int(manifest["version"])
        spec = spec_from_json(manifest["spec"])
        digests = {str(file): (int(entry["bytes"]), str(entry["sha256"])) for file, entry in manifest["files"].items()}
        stored_hash, provenance = str(manifest["spec_hash"]), dict(manifest["provenance"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, UnsupportedSpaceError) as error:
        raise CorruptBundleError(f"{path / MANIFEST}: malformed: {type(error).__name__}: {error}") from error
    if stored_hash != spec_hash(spec):
        raise CorruptBundleError(f"{path / MANIFEST}: spec_hash does not match the spec")
    if "saved_model.pb" not in digests:
        raise CorruptBundleError(f"{path / MANIFEST}: lists no saved_model.pb")
    try:
        for file, (size, digest) in digests.items():
            _verify_file(path, file, size, digest)
        if not ignore_added:
            _check_nothing_added(path, {*digests, MANIFEST.as_posix()})
    except CorruptBundleError as error:
        if not path.is_dir():
            raise BundleNotFoundError(f"no exported policy at {path}: it was deleted while it was read") from error
        raise
    return Bundle(
        path, name, version, spec, stored_hash, provenance, {file: size for file, (size, _) in digests.items()}
    )


@dataclass
class Draft:
    """A bundle being written: put its files under ``path``, and what is only known at the end into ``provenance``."""

    path: Path
    provenance: dict[str, Any] = field(default_factory=dict)
    bundle: Bundle | None = None


@contextmanager
def draft(root: Path, name: str, spec: PolicySpec) -> Iterator[Draft]:
    """Publishes what the body writes under ``draft.path`` as the next free version of policy ``name``.

    Nothing is published when the body raises. Afterwards ``draft.bundle`` is the published, verified bundle.

    Raises:
        ConfigError: The name is not valid.
        ExportError: The bundle could not be written (disk full, no permission).
    """
    policy_dir = root / check_name(name)
    scratch: Path | None = None
    try:
        policy_dir.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".draft-", dir=policy_dir))
        (scratch / EXTRA).mkdir(parents=True)
        work = Draft(scratch)
        yield work
        version = versions(policy_dir)[-1] + 1 if versions(policy_dir) else 1
        while work.bundle is None:
            _write_manifest(scratch, name, version, spec, work.provenance)
            try:
                scratch.chmod(0o755)
                bundle = open_bundle(scratch)  # not once it is there, when a prune may delete it
                scratch.rename(policy_dir / str(version))
            except OSError:
                if not (policy_dir / str(version)).exists():
                    raise
                version += 1  # another export took this number first
            else:
                _fsync(policy_dir)
                work.bundle = replace(bundle, path=policy_dir / str(version))
    except PgkerasError:  # the body's; some are OSErrors, too
        raise
    except OSError as error:
        raise ExportError(f"cannot write policy {name} under {root}: {error}; nothing was published") from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _write_manifest(path: Path, name: str, version: int, spec: PolicySpec, provenance: dict[str, Any]) -> None:
    files = sorted(f for f in path.rglob("*") if f.is_file() and f != path / MANIFEST)
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "version": version,
        "spec": spec_to_json(spec),
        "spec_hash": spec_hash(spec),
        "files": {f.relative_to(path).as_posix(): {"bytes": f.stat().st_size, "sha256": _sha256(f)} for f in files},
        "provenance": provenance,
    }
    (path / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    for entry in [*path.rglob("*"), path]:
        _fsync(entry)


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    try:
        if file.exists() and not file.is_file():
            raise CorruptBundleError(f"{file}: not a plain file")
        if file.stat().st_size > _MAX_MANIFEST_BYTES:
            raise CorruptBundleError(f"{file}: larger than {_MAX_MANIFEST_BYTES} bytes")
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleNotFoundError(f"no exported policy at {path}: {MANIFEST} is missing") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptBundleError(f"{file}: unreadable: {error}") from error
    if not isinstance(data, dict):
        raise CorruptBundleError(f"{file}: expected a JSON object")
    return data


def _verify_file(path: Path, file: str, size: int, digest: str) -> None:
    full = path / file
    if Path(file).is_absolute() or ".." in Path(file).parts:
        raise CorruptBundleError(f"{path / MANIFEST}: file {file!r} lies outside the bundle")
    try:
        if any((path / parent).is_symlink() for parent in [Path(file), *Path(file).parents][:-1]):
            raise CorruptBundleError(f"{full}: a symbolic link, which a bundle may not hold")
        if not full.is_file():
            raise CorruptBundleError(f"{full}: missing; copy or export the version again")
        actual = full.stat().st_size
    except OSError as error:
        raise CorruptBundleError(f"{full}: unreadable: {error.strerror}") from error
    if actual != size or size > _MAX_FILE_BYTES:
        raise CorruptBundleError(
            f"{full}: expected {size} bytes (at most {_MAX_FILE_BYTES}), got {actual}; copy or export the version again"
        )
    if (got := _sha256(full)) != digest:
        raise CorruptBundleError(
            f"{full}: SHA-256 mismatch: expected {digest}, got {got}; copy or export the version again"
        )


def _check_nothing_added(path: Path, listed: set[str]) -> None:
    for entry in (entry for pattern in _READ for entry in path.glob(pattern)):
        file = entry.relative_to(path).as_posix()
        added = entry.is_symlink() or not (entry.is_dir() or file in listed)
        if added and not entry.name.startswith("."):
            raise CorruptBundleError(
                f"{entry}: not listed in {MANIFEST}; delete it, or copy or export the version again"
            )


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise CorruptBundleError(f"{file}: unreadable: {error.strerror}") from error


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
