"""Options of ``pgkeras train``, made from the settings' own types, help and defaults."""

from __future__ import annotations

import dataclasses
import textwrap
import types
import typing
from collections.abc import Callable
from typing import Any

import click

from pgkeras.config import Config, settings
from pgkeras.settings import range_of

__all__ = ["setting_options", "settings_table"]

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
        hint = hints[setting.name]
        kind = typing.get_args(hint)[0] if isinstance(hint, types.UnionType) else hint
        choices = setting.metadata["choices"]
        command = click.option(
            "--" + setting.name.replace("_", "-"),
            type=click.Choice(choices) if choices else kind,
            help=f"{setting.metadata['help']} {_default(setting)}",
        )(command)
    return command


def settings_table() -> str:
    """All settings, for the end of the help text."""
    lines = ["\b", "Settings for --set, with their defaults (a preset may differ: see pgkeras presets):"]
    width = max(len(setting.name) for setting in settings())
    for setting in settings():
        text = f"{setting.metadata['help']} {_default(setting)}"
        lines += textwrap.wrap(
            text, 78, initial_indent=f"  {setting.name:<{width}}  ", subsequent_indent=" " * (width + 4)
        )
    return "\n".join(lines)


def _default(setting: dataclasses.Field[Any]) -> str:
    value = setting.default
    limits = range_of(setting)
    if value is None:
        return f"[{limits}]" if limits else ""
    shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value).lower()
    return f"[default: {shown}{'; ' + limits if limits else ''}]"
