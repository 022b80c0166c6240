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
@click.option("--keep", type=click.IntRange(1), required=True, help="How many of the newest versions to keep.")
@click.option("--policy", help="Only the versions of this policy. [default: of all]")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
def command(root: Path, keep: int, policy: str | None, dry_run: bool) -> None:
    """Delete old versions of the policies under ROOT.

    Versions that a label names are kept. A server goes on with a version that it has loaded until it follows the
    directory, and sessions with theirs until they end.
    """
    names = policy_names(root)
    if policy is not None and policy not in names:
        raise BundleNotFoundError(f"no policy {policy!r} under {root}; there is: {', '.join(names) or 'none'}")
    if not names:
        raise BundleNotFoundError(f"no policy under {root}: give the directory that policies lie in")
    deleted = [
        root / name / str(version)
        for name in (names if policy is None else [policy])
        for version in (superfluous if dry_run else prune)(root / name, keep)
    ]
    for path in deleted:
        click.echo(f"{'Would delete' if dry_run else 'Deleted'}: {path}")
    if not deleted:
        click.echo(f"Nothing to delete: no policy has more than {counted(keep, 'version')} without a label.")
