"""``pgkeras push``."""

from __future__ import annotations

from pathlib import Path

import click

from pgkeras.bundle.bundle import find, open_bundle

__all__ = ["command"]


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("repo", metavar="USER/NAME")
@click.option("--private", is_flag=True, help="Make the repository private, if it is made.")
@click.option("--license", "license_id", metavar="ID", help="Licence to state, such as apache-2.0.")
@click.option("--film", type=click.Path(path_type=Path), help="MP4 file to show with the policy.")
@click.option(
    "--to-folder",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Upload nothing: write what would be uploaded into this new directory.",
)
def command(
    path: Path, repo: str, private: bool, license_id: str | None, film: Path | None, folder: Path | None
) -> None:
    """Upload an exported policy to the Hugging Face Hub, with a model card made from its provenance.

    PATH is a version's directory, or a policy's (its newest version is meant). Log in once with `hf auth login`, or set
    HF_TOKEN. The card says what the policy observes and does, what it returned, and how it was trained.

    \b
    Examples:
      pgkeras push saved_models/cartpole-v1 me/cartpole-v1
      pgkeras push saved_models/cartpole-v1 me/cartpole-v1 --film cartpole-v1.mp4 --license apache-2.0
      pgkeras push saved_models/cartpole-v1 me/cartpole-v1 --to-folder to-look-at
    """
    from pgkeras.hub import push, stage

    if folder is not None and private:
        raise click.UsageError("--to-folder uploads nothing: leave out --private")
    bundle = open_bundle(find(path))
    if folder is not None:
        stage(bundle, folder, repo, license_id=license_id, film=film)
        click.echo(f"Wrote {folder}: what would be at {repo}. Nothing was uploaded.")
    else:
        click.echo(f"Pushed: {push(bundle, repo, license_id=license_id, film=film, private=private)}")
