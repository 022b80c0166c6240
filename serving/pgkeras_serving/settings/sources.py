"""Merges the sources of settings. Flags override variables, variables override the file, and the file the defaults."""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgkeras.errors import ConfigError
from pgkeras.settings.fields import nearest, parse, read_table
from pgkeras_serving.settings.config import ServerConfig, settings

__all__ = ["CONFIG_VARIABLE", "Effective", "as_toml", "resolve", "variable"]

_PREFIX = "PGKERAS_SERVE_"
CONFIG_VARIABLE = f"{_PREFIX}CONFIG"
_DEFAULT = "default"


@dataclass(frozen=True)
class Effective:
    """Merged settings and their origins.

    Args:
        config: The settings.
        origins: The origin of each setting: "default", or the name of the file, the variable or the flag.
        unknown: Unknown variables with the server's prefix, each with a suggestion.
    """

    config: ServerConfig
    origins: dict[str, str]
    unknown: list[str]


def variable(name: str) -> str:
    """Returns the environment variable of a setting."""
    return _PREFIX + name.upper()


def resolve(flags: Mapping[str, Any], environment: Mapping[str, str], file: Path | None = None) -> Effective:
    """Merges all sources of settings.

    Args:
        flags: Values by setting; None for flags that were not given.
        environment: Environment variables; empty ones are ignored.
        file: TOML file whose keys are the settings' names. By default, the file that ``PGKERAS_SERVE_CONFIG`` names.

    Raises:
        ConfigError: The file cannot be read, a key is unknown, or a value is invalid; the message names the source.
    """
    names = [s.name for s in settings()]
    values: dict[str, Any] = {}
    origins = dict.fromkeys([*names, "policies"], _DEFAULT)
    hints = typing.get_type_hints(ServerConfig)
    if file is None and environment.get(CONFIG_VARIABLE):
        file = Path(environment[CONFIG_VARIABLE])
    if file is not None:
        values = read_table(file, "configuration", [*names, "policies"])
        origins.update(dict.fromkeys(values, str(file)))
    for name in names:
        if text := environment.get(variable(name)):
            try:
                values[name] = parse(name, text, hints[name])
            except ConfigError as error:
                raise ConfigError(f"{error} (given by {variable(name)})") from error
            origins[name] = variable(name)
        if flags.get(name) is not None:
            values[name], origins[name] = flags[name], "--" + name.replace("_", "-")
    try:
        config = ServerConfig(**values)
    except ConfigError as error:
        origin = origins.get(str(error).partition(":")[0].partition(".")[0], _DEFAULT)
        raise error if origin == _DEFAULT else ConfigError(f"{error} (given by {origin})") from error
    known = {variable(name) for name in names}
    unknown = [
        f"{name}: {nearest(name, sorted(known))}"
        for name in environment
        if name.startswith(_PREFIX) and name not in known | {CONFIG_VARIABLE}
    ]
    return Effective(config, origins, unknown)


def as_toml(effective: Effective) -> str:
    """Formats the settings as a configuration file, with the origin of each setting as a comment."""
    lines = []
    for name, value in ((s.name, getattr(effective.config, s.name)) for s in settings()):
        origin = effective.origins[name]
        lines.append(f"# {name} is not set  ({origin})" if value is None else f"{name} = {_value(value)}  # {origin}")
    for policy, own in effective.config.policies.items():
        lines += ["", f"[policies.{json.dumps(policy)}]  # {effective.origins['policies']}"]
        lines += [f"{name} = {_value(value)}" for name, value in own.items()]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False)  # TOML's basic strings escape as JSON's do
