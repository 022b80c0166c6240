"""``pgkeras push``."""

from __future__ import annotations

from pathlib import Path

import click

from pgkeras.bundle.bundle import find, open_bundle

__all__ = ["command"]


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("repo", metavar="USER/NAME")
@click.option("--private", is_flag=True, help="Create the repository as private, if it does not exist.")
@click.option("--license", "license_id", metavar="ID", help="License to state, such as apache-2.0.")
@click.option("--film", type=click.Path(path_type=Path), help="MP4 video to show with the policy.")
@click.option(
    "--to-folder",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the files into this new directory instead of uploading them.",
)
def command(
    path: Path, repo: str, private: bool, license_id: str | None, film: Path | None, folder: Path | None
) -> None:
    """Upload an exported policy to the Hugging Face Hub, with a model card generated from its provenance.

    PATH is the directory of a version, or of a policy (its newest version is used). Log in once with `hf auth login`,
    or set HF_TOKEN. The card describes the policy's spaces, its returns and its training.

    \b
    Examples:
      pgkeras push saved_models/cartpole-v1 me/cartpole-v1
      pgkeras push saved_models/cartpole-v1 me/cartpole-v1 --film cartpole-v1.mp4 --license apache-2.0
      pgkeras push saved_models/cartpole-v1 me/cartpole-v1 --to-folder to-look-at
    """
    from pgkeras.hub import push, stage

    if folder is not None and private:
        raise click.UsageError("--to-folder uploads nothing: remove --private")
    bundle = open_bundle(find(path))
    if folder is not None:
        stage(bundle, folder, repo, license_id=license_id, film=film)
        click.echo(f"Wrote the files for {repo} to {folder}. Nothing was uploaded.")
    else:
        click.echo(f"Pushed: {push(bundle, repo, license_id=license_id, film=film, private=private)}")
