"""Retention: deletes versions of a policy that nobody needs any more."""

from __future__ import annotations

import shutil
from pathlib import Path

from pgkeras.bundle.bundle import versions
from pgkeras.bundle.labels import read_labels
from pgkeras.errors import ExportError

__all__ = ["prune", "superfluous"]


def superfluous(policy_dir: Path, keep: int) -> list[int]:
    """The versions that are neither among the newest ``keep`` nor named by a label, ascending.

    Raises:
        CorruptBundleError: The labels cannot be read.
    """
    labelled = set(read_labels(policy_dir).values())
    return [version for version in versions(policy_dir)[:-keep] if version not in labelled]


def prune(policy_dir: Path, keep: int) -> list[int]:
    """Deletes the :func:`superfluous` versions, each as a whole; a server that has one loaded goes on with it.

    Returns:
        The versions that were deleted.

    Raises:
        CorruptBundleError: The labels cannot be read.
        ExportError: A version cannot be deleted.
    """
    deleted = superfluous(policy_dir, keep)
    for version in deleted:
        # Out of sight first, so that nobody reads half of it.
        hidden = policy_dir / f".deleted-{version}"
        try:
            (policy_dir / str(version)).rename(hidden)
            shutil.rmtree(hidden)
        except OSError as error:
            raise ExportError(f"cannot delete {policy_dir / str(version)}: {error}") from error
    return deleted
