"""Labels: names such as ``stable`` that an operator puts on versions of a policy, in a file beside them.

``<root>/<policy name>/labels.json`` holds ``{"stable": 3, "canary": 4}``. It is replaced as a whole, so that a reader
sees the labels before a change or after it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pgkeras.bundle.bundle import open_bundle, versions
from pgkeras.errors import BundleNotFoundError, ConfigError, CorruptBundleError, ExportError, PgkerasError
from pgkeras.files import changing_alone, whole_file

__all__ = ["FILE", "change_labels", "read_labels"]

FILE = "labels.json"

_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_MAX_BYTES = 2**20


def read_labels(policy_dir: Path) -> dict[str, int]:
    """Versions by label, sorted; empty when there is no file.

    Raises:
        CorruptBundleError: The file cannot be read, or is not an object of labels and versions.
    """
    file = policy_dir / FILE
    try:
        if file.is_symlink() or (file.exists() and not file.is_file()) or file.stat().st_size > _MAX_BYTES:
            raise CorruptBundleError(f"{file}: not a plain file of at most {_MAX_BYTES} bytes")
        labels = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptBundleError(f"{file}: unreadable: {error}") from error
    if not isinstance(labels, dict) or not all(
        _LABEL.fullmatch(label) and type(version) is int and version > 0 for label, version in labels.items()
    ):
        raise CorruptBundleError(f'{file}: expected an object of labels and versions, such as {{"stable": 3}}')
    return dict(sorted(labels.items()))


def change_labels(policy_dir: Path, labels: Mapping[str, int], deleted: Sequence[str] = ()) -> dict[str, int]:
    """Puts labels on versions and removes others, all or none of it; a label that is on another version moves.

    Args:
        policy_dir: The policy's directory.
        labels: Versions by label.
        deleted: Labels to remove.

    Returns:
        All labels of the policy.

    Raises:
        ConfigError: A label is not 1 to 64 letters, digits, '.', '_' and '-', beginning with a letter.
        BundleNotFoundError: There is no such policy, version or label.
        CorruptBundleError: The version or the file of labels is not whole.
        ExportError: The file cannot be written.
    """
    if deleted and not versions(policy_dir):
        raise BundleNotFoundError(f"no policy at {policy_dir}")
    for label, version in labels.items():
        if not _LABEL.fullmatch(label):
            raise ConfigError(
                f"label {label!r}: expected 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter"
            )
        _check_version(policy_dir, version)
        try:
            open_bundle(policy_dir / str(version))
        except CorruptBundleError as error:
            raise CorruptBundleError(f"no label is set: version {version} is not whole: {error}") from error
    with _changing(policy_dir) as current:
        for version in labels.values():
            _check_version(policy_dir, version)  # again: reading it took time, and prune deletes in its turn only
        current.update(labels)
        for label in deleted:
            if current.pop(label, None) is None:
                there = ", ".join(current) or "none"
                raise BundleNotFoundError(f"{policy_dir} has no label {label!r}; there is: {there}")
    return read_labels(policy_dir)


def _check_version(policy_dir: Path, version: int) -> None:
    if version not in (found := versions(policy_dir)):
        there = ", ".join(map(str, found)) or "none"
        raise BundleNotFoundError(f"{policy_dir} has no version {version}; there is: {there}")


@contextmanager
def _changing(policy_dir: Path) -> Iterator[dict[str, int]]:
    """The labels, to be changed in place and written when the body is done; others who change them wait."""
    try:
        with changing_alone(policy_dir):  # not on Windows, where a server can read labels but none can be changed
            labels = read_labels(policy_dir)
            yield labels
            with whole_file(policy_dir / FILE) as scratch:
                scratch.write(f"{json.dumps(dict(sorted(labels.items())), indent=2)}\n".encode())
    except PgkerasError:  # the body's; some are OSErrors, too
        raise
    except OSError as error:
        raise ExportError(f"cannot write {policy_dir / FILE}: {error.strerror}") from error
