"""``pgkeras export``."""

from __future__ import annotations

from pathlib import Path

import click

from pgkeras.cli.targets import name_option, root_option
from pgkeras.errors import MissingExtraError

__all__ = ["command"]


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@root_option("--to")
@name_option
def command(run: Path, root: Path, name: str | None) -> None:
    """Export the policy of the last checkpoint in the run directory RUN.

    The policy becomes the next free version of its name, whole or not at all.
    """
    from pgkeras import runs
    from pgkeras.cli.quiet import quiet
    from pgkeras.config import Config

    config = Config.from_json(runs.read_config(run)["config"])
    try:
        with quiet():
            from pgkeras.training import Training
    except ModuleNotFoundError as error:
        raise MissingExtraError((error.name or "a package").partition(".")[0], "train", "export policies") from error
    with quiet():
        bundle = Training(config, run, resume=True).export(root, name)
    click.echo(f"Exported: {bundle.path}")
