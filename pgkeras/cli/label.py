"""``pgkeras label``."""

from __future__ import annotations

from pathlib import Path

import click

from pgkeras.bundle.bundle import check_name, versions
from pgkeras.bundle.labels import change_labels, read_labels
from pgkeras.cli.targets import root_option
from pgkeras.errors import BundleNotFoundError, ConfigError

__all__ = ["command"]


@click.command()
@click.argument("policy")
@click.argument("assignments", metavar="[LABEL=VERSION]...", nargs=-1)
@click.option("--delete", "deleted", metavar="LABEL", multiple=True, help="Delete this label.")
@root_option("--root", "Directory of policies.")
def command(policy: str, assignments: tuple[str, ...], deleted: tuple[str, ...], root: Path) -> None:
    """Put labels on versions of a policy, which calls can name instead of a version.

    Prints the policy's labels. The version must exist and be intact. A server of the directory follows within seconds:
    `pgkeras label cartpole-v1 stable=3` deploys version 3, and `stable=2` rolls back.
    """
    policy_dir = root / check_name(policy)
    if not versions(policy_dir):
        raise BundleNotFoundError(f"no policy at {policy_dir}; give another name, or another --root")
    given = [_parse(assignment) for assignment in assignments]
    names = [*(label for label, _ in given), *deleted]
    if twice := [label for label in dict.fromkeys(names) if names.count(label) > 1]:
        raise click.UsageError(f"label {twice[0]} is given more than once")
    labels = change_labels(policy_dir, dict(given), list(deleted)) if names else read_labels(policy_dir)
    for label, version in labels.items():
        click.echo(f"{label}={version}")


def _parse(assignment: str) -> tuple[str, int]:
    label, _, version = assignment.partition("=")
    try:
        return label, int(version)
    except ValueError as error:
        raise ConfigError(f"{assignment!r}: expected LABEL=VERSION, such as stable=3") from error
