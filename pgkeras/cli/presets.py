"""``pgkeras presets``."""

from __future__ import annotations

import shlex
from typing import Any

import click

from pgkeras.settings.config import DEFAULT, preset_for, preset_names, read_preset, settings
from pgkeras.settings.fields import written

__all__ = ["command"]


@click.command()
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """List the presets, or show every setting of the preset NAME.

    NAME is a preset, a TOML file, or the id of an environment that has a preset. `pgkeras train ENV` uses the
    environment's preset. If there is none, it uses "continuous" or "discrete", depending on the action space. Settings
    are written as --set takes them.
    """
    if name is None:
        width = max(map(len, preset_names()))
        for preset in preset_names():
            changes = " ".join(_assignment(key, value) for key, value in read_preset(preset).items())
            click.echo(f"{preset:<{width}} {changes or 'the defaults'}")
        return
    own = preset_for(name)
    values = read_preset(name if own == DEFAULT else own)
    for setting in settings():
        mark = "*" if setting.name in values else " "
        click.echo(f"{mark} {_assignment(setting.name, values.get(setting.name, setting.default))}")
    click.echo("\n* set by this preset; the others are defaults.")


def _assignment(key: str, value: Any) -> str:
    """A setting as --set takes it in a shell."""
    return shlex.quote(f"{key}={written(value)}")
