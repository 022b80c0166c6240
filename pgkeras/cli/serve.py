"""``pgkeras serve``."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click
from pgkeras_serving.config import ServerConfig, settings

from pgkeras.cli.targets import DEFAULT_ROOT
from pgkeras.engines import EngineName
from pgkeras.errors import ConfigError

__all__ = ["command"]


def _option(setting: dataclasses.Field[Any]) -> Callable[[Any], Any]:
    kind: Any = type(setting.default)
    if setting.name == "engine":
        kind = click.Choice(get_args(EngineName))
    elif setting.default is None:
        kind = click.Path(path_type=Path, dir_okay=False)
    flag = "--" + setting.name.replace("_", "-")
    if kind is bool:
        return click.option(flag, is_flag=True, help=setting.metadata["help"])
    return click.option(
        flag,
        type=kind,
        default=setting.default,
        show_default=setting.default is not None,
        help=setting.metadata["help"],
    )


@click.command()
@click.argument("root", type=click.Path(path_type=Path), required=False)
def command(root: Path | None, **options: Any) -> None:
    """Serve exported policies over gRPC.

    ROOT is a directory of policies, or one policy's or version's own directory; by default saved_models in the current
    directory. Prints one line when ready. SIGTERM or Ctrl-C lets the calls in flight finish and stops.
    """
    if root is None and not DEFAULT_ROOT.is_dir():
        raise ConfigError(
            f"there is no {DEFAULT_ROOT} directory here: name the directory of policies to serve, "
            "or make one with: pgkeras train ENV"
        )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    config = ServerConfig(root or DEFAULT_ROOT, **options)
    from pgkeras_serving.server import run

    run(config)


for _setting in settings():
    command = _option(_setting)(command)
