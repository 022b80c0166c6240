"""``pgkeras doctor``."""

from __future__ import annotations

import importlib.util
import math
import os
import platform
import re
from importlib import metadata
from pathlib import Path

import click

from pgkeras import __version__
from pgkeras.cli.numbers import counted
from pgkeras.cores import available
from pgkeras.memory import available_bytes

__all__ = ["command"]

_EXTRAS = ("serve", "train", "video")
# Extras for optional features; a missing one is not reported as an error.
_OPTIONAL = ("plot", "ray", "envpool", "trace", "tune", "wandb", "mlflow", "hub")
_VARIABLES = ("PGKERAS_", "KERAS_", "TF_", "CUDA_", "HF_", "MLFLOW_", "OMP_", "OTEL_", "WANDB_", "XLA_")
# Values of other variables are shown only if they cannot be a name, an address or a secret.
_SHOWN = ("CUDA_VISIBLE_", "KERAS_BACKEND", "OMP_", "TF_CPP_", "TF_CUDNN_", "TF_ENABLE_", "TF_FORCE_", "TF_NUM_")
_HARMLESS = re.compile(r"[\d.]{1,12}|true|false|none|auto", re.IGNORECASE)


@click.command()
@click.option("--environments", is_flag=True, help="List the gymnasium environments instead.")
def command(environments: bool) -> None:
    """Show versions, devices, environment variables and missing packages, with the commands that install them.

    Include the output in bug reports. It contains no user names and no secrets.
    """
    if environments:
        _list_environments()
        return
    click.echo(f"pgkeras {__version__}, Python {platform.python_version()}, {platform.platform()}")
    missing = [extra for extra in ("", *_EXTRAS) if not _show_requirements(extra)]
    _show_optional()
    _show_devices()
    _show_machine()
    for extra in missing:
        click.echo(f'To install the extra "{extra}": pip install "pgkeras[{extra}]"')
    if not missing:
        click.echo('Nothing required is missing. Packages listed as "not installed" are optional.')


def _show_requirements(extra: str) -> bool:
    click.echo(f"\n{extra or 'client'}:")
    complete = True
    for name, specifier in _requirements(extra).items():
        version = _version(name)
        click.echo(f"  {name:<26} {version or f'missing (needs {specifier})'}")
        complete = complete and version is not None
    return complete


def _show_optional() -> None:
    click.echo("\noptional:")
    usual = {name for extra in _EXTRAS for name in _requirements(extra)}
    for extra in _OPTIONAL:
        for name in _requirements(extra):
            if name not in usual:
                click.echo(f"  {name:<26} {_version(name) or f'not installed (extra {extra})'}")


def _requirements(extra: str) -> dict[str, str]:
    """Returns the packages that an extra, or the client for an empty name, requires, with their version specifiers."""
    found = {}
    for requirement in metadata.requires("pgkeras") or ():
        specifier, _, marker = requirement.partition(";")
        wanted = re.search(r"extra == ['\"](\w+)['\"]", marker)
        name = re.split(r"[^\w.-]", specifier.strip())[0]
        if (wanted[1] if wanted else "") == extra and name != "pgkeras":
            found[name] = specifier.strip()
    return found


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


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


def _show_machine() -> None:
    cores, memory = available(), available_bytes()
    click.echo(f"\nmachine:\n  {platform.machine()}, {counted(cores, 'core')} available")
    if math.isfinite(memory):
        click.echo(f"  {memory / 2**30:.1f} GB of memory available")
    set_ = {name: value for name, value in sorted(os.environ.items()) if name.startswith(_VARIABLES)}
    click.echo("\nvariables:" if set_ else "\nvariables: none set that affect pgkeras")
    for name, value in set_.items():
        is_shown = name.startswith(_SHOWN) or _HARMLESS.fullmatch(value)
        click.echo(f"  {name}={value.replace(str(Path.home()), '~') if is_shown else '(not shown)'}")


def _list_environments() -> None:
    from pgkeras.errors import extra_needed

    with extra_needed("train", "list environments"):
        import gymnasium
    for env_id in sorted(gymnasium.registry):
        click.echo(env_id)
