"""``pgkeras info``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from pgkeras.bundle import bundle
from pgkeras.cli import text
from pgkeras.cli.connection import connection_options
from pgkeras.cli.targets import is_address
from pgkeras.client.client import PolicyClient

__all__ = ["command"]


@click.command()
@click.argument("what", metavar="PATH|HOST:PORT")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--all", "every_setting", is_flag=True, help="Also show settings that have their default value.")
@connection_options
def command(what: str, as_json: bool, every_setting: bool, connection: dict[str, Any]) -> None:
    """Describe an exported policy or a running server.

    PATH is the directory of a version, of a policy (its newest version is shown), or of policies if it contains only
    one. Every file is verified against its digest.
    """
    if is_address(what):
        with PolicyClient(what, **connection) as client:
            found = [text.server_policy(policy) for policy in client.policies()]
    else:
        found = [text.bundle(bundle.open_bundle(bundle.find(Path(what))))]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    click.echo("\n\n".join(text.table(text.readable(policy, every_setting=every_setting)) for policy in found))
