"""``pgkeras doctor``."""

from __future__ import annotations

import importlib.util
import platform
import re
from importlib import metadata

import click

from pgkeras import __version__

__all__ = ["command"]

_EXTRAS = ("serve", "train", "video")


@click.command()
@click.option("--environments", is_flag=True, help="List the gymnasium environments instead.")
def command(environments: bool) -> None:
    """Show versions and devices, and for whatever is missing the command that installs it."""
    if environments:
        _list_environments()
        return
    click.echo(f"pgkeras {__version__}, Python {platform.python_version()}, {platform.platform()}")
    missing = [extra for extra in ("", *_EXTRAS) if not _show_requirements(extra)]
    _show_devices()
    for extra in missing:
        click.echo(f'To add what "{extra}" needs: pip install "pgkeras[{extra}]"')
    if not missing:
        click.echo("Nothing is missing.")


def _show_requirements(extra: str) -> bool:
    click.echo(f"\n{extra or 'client'}:")
    complete = True
    for requirement in metadata.requires("pgkeras") or ():
        specifier, _, marker = requirement.partition(";")
        wanted = re.search(r"extra == ['\"](\w+)['\"]", marker)
        name = re.split(r"[^\w.-]", specifier.strip())[0]
        if (wanted[1] if wanted else "") != extra or name == "pgkeras":
            continue
        try:
            click.echo(f"  {name:<26} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            click.echo(f"  {name:<26} missing (needs {specifier.strip()})")
            complete = False
    return complete


def _show_devices() -> None:
    click.echo("\ndevices:")
    if importlib.util.find_spec("tensorflow") is None:
        click.echo("  CPU (TensorFlow is not installed)")
        return
    from pgkeras.cli.native_output import quiet

    with quiet():
        import tensorflow as tf

        devices = tf.config.list_physical_devices()
    for device in devices:
        details = tf.config.experimental.get_device_details(device).get("device_name", "")
        click.echo(f"  {device.device_type} {details}".rstrip())
    if not any(device.device_type == "GPU" for device in devices):
        click.echo('  no GPU is visible; for NVIDIA on Linux: pip install "pgkeras[gpu]"')


def _list_environments() -> None:
    from pgkeras.errors import extra_needed

    with extra_needed("train", "list environments"):
        import gymnasium
    for env_id in sorted(gymnasium.registry):
        click.echo(env_id)
