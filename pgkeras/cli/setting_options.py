"""Options made from the types, help and defaults of settings."""

from __future__ import annotations

import dataclasses
import textwrap
import typing
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import click

from pgkeras.settings.config import settings
from pgkeras.settings.fields import interval_of, whole, words_of, written

__all__ = ["OFTEN_SET", "options_of", "settings_table"]

OFTEN_SET = (
    "seed",
    "steps",
    "time_limit",
    "stop_return",
    "baseline",
    "network",
    "memory",
    "act_engine",
    "devices",
    "collect",
    "ray_address",
    "evaluation_every",
)
"""The settings of training that have an option of their own; the others are set by --set."""


def options_of(config: type, names: Container[str] | None = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds an option for each setting of a dataclass; the command gets None for those that are not given.

    Args:
        config: The dataclass; its settings are the fields made with :func:`pgkeras.settings.fields.setting`.
        names: The settings to add; all by default.
    """
    hints = typing.get_type_hints(config)

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for setting in reversed(dataclasses.fields(config)):
            if "help" in setting.metadata and (names is None or setting.name in names):
                command = _option(setting, hints[setting.name])(command)
        return command

    return add


def _option(setting: dataclasses.Field[Any], hint: Any) -> Callable[[Any], Any]:
    flag = "--" + setting.name.replace("_", "-")
    if hint is bool:
        return click.option(f"{flag}/--no-{flag[2:]}", default=None, help=setting.metadata["help"])
    about = f"{setting.metadata['help']} {_note(setting, choices=False)}"
    return click.option(flag, type=_option_type(setting, hint), help=about)


def _option_type(setting: dataclasses.Field[Any], hint: Any) -> Any:
    """The click type of a setting's option: its choices, or its own type, written as in files and by --set."""
    if choices := setting.metadata["choices"]:
        return click.Choice(choices)
    kinds = {int: _WholeNumber(words_of(hint)), float: float, Path: click.Path(path_type=Path)}
    return next((kinds[part] for part in (hint, *typing.get_args(hint)) if part in kinds), str)


class _WholeNumber(click.types.IntParamType):
    def __init__(self, words: tuple[str, ...] = ()) -> None:
        self._words = words  # which are taken beside numbers

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in self._words:
            return str(value)
        try:
            return whole(value)
        except ValueError:
            self.fail(f"{value!r} is not a whole number.", param, ctx)


def settings_table() -> str:
    """All settings, for the end of the help text."""
    lines = ["\b", "Settings for --set, with their defaults (a preset may differ: see pgkeras presets):"]
    width = max(len(setting.name) for setting in settings())
    for setting in settings():
        text = f"{setting.metadata['help']} {_note(setting, choices=True)}"
        lines += textwrap.wrap(
            text, 78, initial_indent=f"  {setting.name:<{width}}  ", subsequent_indent=" " * (width + 4)
        )
    return "\n".join(lines)


def _note(setting: dataclasses.Field[Any], *, choices: bool) -> str:
    """A setting's default and range, to stand behind its help; empty where there is nothing to say.

    Args:
        setting: The setting.
        choices: Whether to name its choices; click shows those of an option by itself.
    """
    value, limits = setting.default, interval_of(setting)
    notes = []
    if value not in (None, (), ""):
        notes.append(f"default: {written(value)}")
    if limits and (choices or not setting.metadata["choices"]):
        notes.append(limits)
    return f"[{'; '.join(notes)}]" if notes else ""
