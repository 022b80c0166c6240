"""``pgkeras serve``."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import click
from pgkeras_serving.settings.config import ServerConfig, settings
from pgkeras_serving.settings.sources import as_toml, resolve

from pgkeras.cli.setting_options import options_of
from pgkeras.errors import ConfigError

__all__ = ["command"]

_OPTIONS = [setting.name for setting in settings() if setting.name != "root"]  # root is the argument


@click.command()
@click.argument("root", type=click.Path(path_type=Path), required=False)
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="TOML file of settings.")
@click.option("--print-config", is_flag=True, help="Print the settings as TOML with their origins, and exit.")
@options_of(ServerConfig, _OPTIONS)
def command(root: Path | None, config: Path | None, print_config: bool, **flags: Any) -> None:
    """Serve exported policies over gRPC.

    ROOT is a directory of policies, or the directory of one policy or version; by default saved_models in the current
    directory. The command prints one line when it is ready. SIGTERM or Ctrl-C lets calls in progress finish and stops.

    Every option --some-name can also be set by the environment variable PGKERAS_SERVE_SOME_NAME, or by some_name in a
    TOML file. Options override variables, and variables override the file.
    """
    effective = resolve({**flags, "root": root}, os.environ, config)
    if print_config:
        for advice in effective.unknown:
            click.echo(f"Warning: unknown environment variable: {advice}", err=True)
        click.echo(as_toml(effective), nl=False)
        return
    if effective.origins["root"] == "default" and not effective.config.root.is_dir():
        raise ConfigError(
            f"there is no directory {effective.config.root} here: give the directory of policies to serve, "
            "or create one with: pgkeras train ENV"
        )
    from pgkeras_serving.telemetry import logs

    logs.configure(effective.config)
    for advice in effective.unknown:
        logging.getLogger(__name__).warning("unknown environment variable: %s", advice)
    if effective.config.workers_wanted > 1:
        from pgkeras_serving.workers import supervisor

        supervisor.run(effective.config)
        return
    from pgkeras_serving.server import run

    run(effective.config)
