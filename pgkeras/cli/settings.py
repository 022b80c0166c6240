"""Options of ``pgkeras train``, made from the settings' own types, help and defaults."""

from __future__ import annotations

import dataclasses
import textwrap
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pgkeras.settings.config import Config, settings
from pgkeras.settings.fields import range_of, whole

__all__ = ["note", "option_type", "setting_options", "settings_table"]

# The settings with an option of their own; the others are set by --set.
_OPTIONS = (
    "seed",
    "steps",
    "time_limit",
    "stop_return",
    "baseline",
    "network",
    "memory",
    "act_engine",
    "evaluation_every",
)


def setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds one option for each of the commonest settings, None when it is not given."""
    hints = typing.get_type_hints(Config)
    for setting in reversed([s for s in settings() if s.name in _OPTIONS]):
        command = click.option(
            "--" + setting.name.replace("_", "-"),
            type=option_type(setting, hints[setting.name]),
            help=f"{setting.metadata['help']} {note(setting, choices=False)}",
        )(command)
    return command


def option_type(setting: dataclasses.Field[Any], hint: Any) -> Any:
    """The click type of a setting's option: its choices, or its own type, written as in files and by --set.

    Args:
        setting: The setting.
        hint: Its type, or that or None.
    """
    if choices := setting.metadata["choices"]:
        return click.Choice(choices)
    kinds = {int: _WholeNumber(), float: float, Path: click.Path(path_type=Path)}
    return next((kinds[part] for part in (hint, *typing.get_args(hint)) if part in kinds), str)


class _WholeNumber(click.types.IntParamType):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return whole(value)
        except ValueError:
            self.fail(f"{value!r} is not a whole number.", param, ctx)


def settings_table() -> str:
    """All settings, for the end of the help text."""
    lines = ["\b", "Settings for --set, with their defaults (a preset may differ: see pgkeras presets):"]
    width = max(len(setting.name) for setting in settings())
    for setting in settings():
        text = f"{setting.metadata['help']} {note(setting, choices=True)}"
        lines += textwrap.wrap(
            text, 78, initial_indent=f"  {setting.name:<{width}}  ", subsequent_indent=" " * (width + 4)
        )
    return "\n".join(lines)


def note(setting: dataclasses.Field[Any], *, choices: bool) -> str:
    """A setting's default and range, to stand behind its help; empty where there is nothing to say.

    Args:
        setting: The setting.
        choices: Whether to name its choices; click shows those of an option by itself.
    """
    value, limits = setting.default, range_of(setting)
    notes = []
    if value not in (None, ()):
        shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
        notes.append(f"default: {str(shown).lower() if isinstance(shown, bool) else shown}")
    if limits and (choices or not setting.metadata["choices"]):
        notes.append(limits)
    return f"[{'; '.join(notes)}]" if notes else ""
