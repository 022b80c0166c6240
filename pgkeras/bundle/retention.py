"""Retention: deletes versions of a policy that nobody needs any more."""

from __future__ import annotations

import contextlib
import shutil
import sys
from pathlib import Path

from pgkeras.bundle.bundle import versions
from pgkeras.bundle.labels import read_labels
from pgkeras.errors import ExportError
from pgkeras.files import changing_alone

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

    What an earlier call has left that was killed is deleted, too.

    Returns:
        The versions that were deleted.

    Raises:
        CorruptBundleError: The labels cannot be read.
        ExportError: A version cannot be deleted.
    """
    if not policy_dir.is_dir():
        return []
    deleted = []
    try:
        with _no_label_changes(policy_dir):
            for version in superfluous(policy_dir, keep):
                # Out of sight first, so that nobody reads half of it.
                hidden = policy_dir / f".deleted-{version}"
                shutil.rmtree(hidden, ignore_errors=True)  # a version that somebody has put there again
                with contextlib.suppress(FileNotFoundError):  # another prune was faster, where there are no locks
                    (policy_dir / str(version)).rename(hidden)
                    deleted.append(version)
        for hidden in policy_dir.glob(".deleted-*"):
            shutil.rmtree(hidden, ignore_errors=True)  # together with another prune, perhaps
            if hidden.exists():
                shutil.rmtree(hidden)  # says what is in the way
    except OSError as error:
        raise ExportError(f"cannot delete versions of {policy_dir}: {error}") from error
    return deleted


def _no_label_changes(policy_dir: Path) -> contextlib.AbstractContextManager[None]:
    """Keeps a label from being put on a version that is about to go. On Windows none can be put on any."""
    return contextlib.nullcontext() if sys.platform == "win32" else changing_alone(policy_dir)
