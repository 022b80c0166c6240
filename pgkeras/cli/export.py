"""``pgkeras export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgkeras.cli.targets import name_option, root_option
from pgkeras.errors import extra_needed
from pgkeras.runs.checkpoints import BEST, LAST

if TYPE_CHECKING:
    from pgkeras.bundle.bundle import Bundle
    from pgkeras.runs.sources import EpisodeSource

__all__ = ["command", "export_run"]


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--checkpoint", help="best, last, or an epoch. [default: best if there were evaluations, else last]")
@root_option("--to")
@name_option
def command(run: Path, checkpoint: str | None, root: Path, name: str | None) -> None:
    """Export the policy of a checkpoint in the run directory RUN.

    The policy is published atomically as the next version of its name.
    """
    click.echo(f"Exported: {export_run(run, checkpoint, root, name).path}")


def export_run(run: Path, checkpoint: str | None, root: Path, name: str | None) -> Bundle:
    """Exports the policy of a run.

    Args:
        run: The run directory.
        checkpoint: The checkpoint; None for the best in evaluations, or the last if there were none.
        root: Directory of policies.
        name: The policy's name; None for a name derived from the environment.

    Raises:
        PgkerasError: See :class:`pgkeras.runs.training.Training`.
    """
    from pgkeras.cli.native_output import quiet
    from pgkeras.runs import directory as runs
    from pgkeras.settings.config import Config

    written = runs.read_config(run)
    config = Config.from_json(written["config"])
    source: EpisodeSource | None = None
    if not written.get("is_environment", True):
        from pgkeras.simulators.declaration import SPACES, Declaration
        from pgkeras.simulators.no_simulators import NoSimulators

        source = NoSimulators(Declaration.read(run / SPACES))
    with extra_needed("train", "export policies"), quiet():
        from pgkeras.runs.sources import GymnasiumEpisodes
        from pgkeras.runs.training import Training
    with quiet():
        if config.collect == "ray" and source is None:  # nothing is played, so no Ray cluster is needed
            source = GymnasiumEpisodes(config, slots=1)
        # One device, because the machines and GPUs of the training may not be available.
        training = Training(config, run, resume=True, checkpoint=checkpoint or LAST, source=source, devices="one")
        try:
            return training.export(root, name, BEST if checkpoint is None else LAST)
        finally:
            if training.directory is not None:
                training.directory.close()
