"""Options of commands that take several runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgkeras.errors import ConfigError

if TYPE_CHECKING:
    from pgkeras.runs.groups import GroupedRun

__all__ = ["groups_of", "run_options"]


def groups_of(
    run_directories: tuple[Path, ...], groups: tuple[tuple[str, str], ...], by: str
) -> dict[str, dict[str, list[GroupedRun]]]:
    """The runs that the options of :func:`run_options` name; see :func:`pgkeras.runs.groups.grouped`.

    Raises:
        click.UsageError: They name none, or a setting that a run does not have.
        RunError: A directory holds no run.
    """
    from pgkeras.runs.groups import chosen, grouped

    try:
        found = chosen(run_directories, groups)
        if not found:
            raise ConfigError("give run directories, such as runs/*")
        return grouped(found, by)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the argument RUN... and the options --by and --group: ``run_directories``, ``by`` and ``groups``."""
    command = click.option(
        "--group",
        "groups",
        nargs=2,
        multiple=True,
        metavar="LABEL PATTERN",
        help="One group of all run directories that match, such as: --group value 'runs/value-*'",
    )(command)
    command = click.option(
        "--by",
        default="env_id",
        show_default=True,
        metavar="SETTING",
        help='Runs that agree in this setting are one group; "run" for a group each.',
    )(command)
    return click.argument("run_directories", metavar="RUN...", nargs=-1, type=click.Path(path_type=Path))(command)
