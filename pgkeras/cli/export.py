"""``pgkeras export``."""

from __future__ import annotations

from pathlib import Path

import click

from pgkeras.cli.targets import name_option, root_option
from pgkeras.errors import extra_needed
from pgkeras.runs.checkpoints import BEST, LAST

__all__ = ["command"]


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--checkpoint", help="Which: best, last, or an epoch. [default: best in evaluations; without any, last]")
@root_option("--to")
@name_option
def command(run: Path, checkpoint: str | None, root: Path, name: str | None) -> None:
    """Export the policy of a checkpoint in the run directory RUN.

    The policy becomes the next free version of its name, whole or not at all.
    """
    from pgkeras.cli.native_output import quiet
    from pgkeras.runs import directory as runs
    from pgkeras.settings.config import Config

    config = Config.from_json(runs.read_config(run)["config"])
    with extra_needed("train", "export policies"), quiet():
        from pgkeras.runs.training import Training
    with quiet():
        training = Training(config, run, resume=True, checkpoint=checkpoint or LAST)
        bundle = training.export(root, name, BEST if checkpoint is None else LAST)
    click.echo(f"Exported: {bundle.path}")
