"""Options of the commands that take several runs."""

from __future__ import annotations

from collections.abc import Callable
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgkeras.errors import ConfigError, RunError

if TYPE_CHECKING:
    from pgkeras.runs.groups import GroupedRun

__all__ = ["groups_of", "run_options"]


def groups_of(
    run_directories: tuple[Path, ...], groups: tuple[tuple[str, str], ...], by: str
) -> dict[str, dict[str, list[GroupedRun]]]:
    """Groups the runs that the options of :func:`run_options` name; see :func:`pgkeras.runs.groups.grouped`.

    Skips runs without a finished epoch, with a message on standard error.

    Raises:
        click.UsageError: The options name no run, or a setting that a run does not have.
        RunError: No run has a finished epoch.
    """
    from pgkeras.runs.groups import chosen, grouped

    try:
        found = chosen(run_directories, groups)
        if not found:
            raise ConfigError("give run directories, such as runs/*")
        return grouped(_with_epochs(found), by)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error


def _with_epochs(found: list[tuple[str | None, Path]]) -> list[tuple[str | None, Path]]:
    """Returns the runs that have finished an epoch."""
    reasons = {path: reason for _, path in found if (reason := _why_not(path)) is not None}
    kept = [(label, path) for label, path in found if path not in reasons]
    if not kept:
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        raise RunError(f"{next(iter(reasons.values()))}{more}")
    for reason in reasons.values():
        click.echo(f"Skipped: {reason}", err=True)
    return kept


def _why_not(path: Path) -> str | None:
    """Returns why a path is not a run with a finished epoch, or None if it is one."""
    from pgkeras.runs.directory import CONFIG, METRICS

    if not path.exists() and has_magic(str(path)):
        return f"no path matches {path}"
    if not (path / CONFIG).exists():
        return f"{path} is not a run directory: {CONFIG} is missing"
    metrics = path / METRICS
    return None if metrics.exists() and metrics.stat().st_size else f"{path} has no finished epoch"


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the argument RUN... and the options --by and --group as ``run_directories``, ``by`` and ``groups``."""
    command = click.option(
        "--group",
        "groups",
        nargs=2,
        multiple=True,
        metavar="LABEL PATTERN",
        help="Group all run directories that match a pattern, as in: --group value 'runs/value-*'",
    )(command)
    command = click.option(
        "--by",
        default="env_id",
        show_default=True,
        metavar="SETTING",
        help='Group runs with the same value of this setting; "run" makes a group of every run.',
    )(command)
    return click.argument("run_directories", metavar="RUN...", nargs=-1, type=click.Path(path_type=Path))(command)
