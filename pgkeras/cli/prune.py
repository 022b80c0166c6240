"""``pgkeras prune``."""

from __future__ import annotations

from pathlib import Path

import click

from pgkeras.bundle.bundle import policy_names
from pgkeras.bundle.retention import prune, superfluous
from pgkeras.cli.numbers import counted
from pgkeras.cli.targets import DEFAULT_ROOT
from pgkeras.errors import BundleNotFoundError

__all__ = ["command"]


@click.command()
@click.argument("root", type=click.Path(path_type=Path), default=DEFAULT_ROOT)
@click.option("--keep", type=click.IntRange(1), required=True, help="Number of newest versions to keep.")
@click.option("--policy", help="Prune only this policy. [default: all policies]")
@click.option("--dry-run", is_flag=True, help="Show what would be deleted, without deleting it.")
def command(root: Path, keep: int, policy: str | None, dry_run: bool) -> None:
    """Delete old versions of the policies under ROOT.

    Versions with a label are kept. A running server keeps a deleted version until it next scans the directory, and
    sessions keep theirs until they end.
    """
    names = policy_names(root)
    if policy is not None and policy not in names:
        raise BundleNotFoundError(f"no policy {policy!r} under {root}; available: {', '.join(names) or 'none'}")
    if not names:
        raise BundleNotFoundError(f"no policy under {root}: give the directory that contains the policies")
    deleted = [
        root / name / str(version)
        for name in (names if policy is None else [policy])
        for version in (superfluous if dry_run else prune)(root / name, keep)
    ]
    for path in deleted:
        click.echo(f"{'Would delete' if dry_run else 'Deleted'}: {path}")
    if not deleted:
        click.echo(f"Nothing to delete: no policy has more than {counted(keep, 'version')} without a label.")
