"""Merges the sources of settings: flags override variables, variables the file, the file the defaults."""

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
    """Settings, and where each comes from.

    Args:
        config: The settings.
        origins: By setting: "default", the file's name, the variable's or the flag's.
        unknown: Variables that begin like the server's own but are none, each with advice.
    """

    config: ServerConfig
    origins: dict[str, str]
    unknown: list[str]


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return _PREFIX + name.upper()


def resolve(flags: Mapping[str, Any], environment: Mapping[str, str], file: Path | None = None) -> Effective:
    """The settings that all sources give together.

    Args:
        flags: By setting; None where none was given.
        environment: The variables; one that is empty counts as not given.
        file: A TOML file whose keys are the settings' names. Else the one that a variable names.

    Raises:
        ConfigError: The file cannot be read, a key is unknown, or a value is wrong; the message says where it is from.
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
    """The settings as a configuration file, which says where each comes from."""
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
