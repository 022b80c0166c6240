"""``pgkeras pull``."""

from __future__ import annotations

from pathlib import Path

import click

from pgkeras.cli.targets import root_option

__all__ = ["command"]


@click.command()
@click.argument("source", metavar="USER/NAME|DIRECTORY")
@root_option("--to")
@click.option("--name", help="Name to publish the policy under. [default: its own name]")
@click.option("--revision", help="Branch, tag or commit. [default: the main branch]")
def command(source: str, root: Path, name: str | None, revision: str | None) -> None:
    """Download a policy from the Hugging Face Hub and publish it as the next version of its name.

    Every file is verified before the policy is published. A policy is a program: pull policies only from sources whose
    programs you would run.

    \b
    Examples:
      pgkeras pull me/cartpole-v1
      pgkeras pull me/cartpole-v1 --revision 3f0c1d2 --to served --name cartpole
    """
    from pgkeras.hub import pull

    bundle = pull(source, root, name=name, revision=revision)
    click.echo(f"Pulled: {bundle.path}")
    click.echo(f"Serve it: pgkeras serve {root}")
