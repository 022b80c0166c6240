"""Declares settings as dataclass fields with default, help and range, and checks them."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pgkeras.errors import ConfigError

__all__ = [
    "NONE",
    "check_fields",
    "check_keys",
    "interval_of",
    "nearest",
    "parse",
    "parse_part",
    "range_of",
    "read_table",
    "setting",
    "whole",
    "words_of",
    "written",
]

NONE = "none"
"""How files and the command line write an optional setting that is off."""

_FAR = 10**10  # a maximum beyond it is what a format can hold, and of no use to whoever reads about a setting
_MANY = 20  # names, which are too many to list in a message


def setting(
    default: Any,
    help: str,  # noqa: A002 - the name that click and argparse use for it
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] | None = None,
    check: Callable[[Any], object] | None = None,
) -> Any:
    """A dataclass's field with a default, its help and its allowed range.

    ``check`` is called with a value, or with every element of a tuple, and raises ConfigError for what is wrong.
    """
    limits = {"minimum": minimum, "maximum": maximum, "above": above, "choices": choices, "check": check}
    return dataclasses.field(default=default, metadata={"help": help, **limits})


def check_fields(config: Any) -> None:
    """Checks every field of a dataclass by its type and range, and casts it where that loses nothing.

    Args:
        config: The instance; it may be frozen.

    Raises:
        ConfigError: A value is of the wrong type or outside its range; the message names both.
    """
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = _typed(field.name, getattr(config, field.name), hints[field.name])
        object.__setattr__(config, field.name, value)
        for element in value if isinstance(value, tuple) else (value,):
            _check_range(field, element)


def parse(name: str, text: str, hint: Any) -> Any:
    """The value that a text means to a setting.

    Args:
        name: The setting's name.
        text: "none" clears an optional setting; a list is written with commas, or in JSON where it is not of numbers,
            and a table in JSON.
        hint: The setting's type.

    Raises:
        ConfigError: The text means none of that type.
    """
    if _is_union(hint):
        if text.lower() in words_of(hint):
            return text.lower()
        if text.lower() == NONE and types.NoneType in typing.get_args(hint):
            return None
        hint = typing.get_args(hint)[0]
    parser: Callable[[str, Any], Any] = _PARSERS.get(typing.get_origin(hint) or hint, _as_it_is)
    try:
        return parser(text, hint)
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{name}: expected {_describe(hint)}, got {text!r}") from error


def written(value: Any) -> str:
    """A setting's value as :func:`parse` reads it: none, true, 128,64, JSON for tables and lists of other things."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return json.dumps(value, separators=(",", ":"))
    if isinstance(value, list | tuple):
        texts = [str(element) for element in value]
        is_plain = all(isinstance(element, str | int) for element in value)
        if not is_plain or any(text != text.strip() or "," in text or text.startswith("[") for text in texts):
            return json.dumps(list(value), separators=(",", ":"))
        return ",".join(texts) if texts else NONE
    return str(value)


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (types.UnionType, typing.Union)


def words_of(hint: Any) -> tuple[str, ...]:
    """The words that a setting takes beside values of its type: those of a Literal in its hint's union."""
    literals = [part for part in typing.get_args(hint) if typing.get_origin(part) is typing.Literal]
    return tuple(word for literal in literals for word in typing.get_args(literal))


def whole(text: str) -> int:
    """The whole number that a text means, such as 1000, 1_000 or 1e3.

    Raises:
        ValueError: It means none.
    """
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not number.is_integer():
            raise
        return int(number)


def parse_part(name: str, text: str, hint: Any) -> Any:
    """The value that a text means to one part of a setting that is a table: JSON's if it is JSON, itself otherwise.

    Raises:
        ConfigError: The setting is no table.
    """
    if not any(typing.get_origin(part) is Mapping for part in (hint, *typing.get_args(hint))):
        raise ConfigError(f"{name}: expected {_describe(hint)}, got one of its parts, which it has none of")
    try:
        return json.loads(text)
    except ValueError:
        return text


def _as_it_is(text: str, _hint: Any) -> str:
    return text


def _parse_list(text: str, hint: Any) -> Any:
    kind = typing.get_args(hint)[0]
    if text.lower() == NONE:
        return ()
    if kind is int:
        return tuple(int(part) for part in text.split(",") if part.strip())
    if text.startswith("["):
        return tuple(json.loads(text))
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _parse_table(text: str, _hint: Any) -> dict[str, Any]:
    table = json.loads(text)
    if not isinstance(table, dict):
        raise ValueError("not a table")
    return table


_BOOLS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_PARSERS: dict[Any, Callable[[str, Any], Any]] = {
    bool: lambda text, _: _BOOLS[text.lower()],
    int: lambda text, _: whole(text),
    float: lambda text, _: float(text),
    Path: lambda text, _: Path(text),
    tuple: _parse_list,
    Mapping: _parse_table,
}


def _typed(name: str, value: Any, hint: Any) -> Any:
    """The value as the hinted type, where that loses nothing."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()  # NumPy's numbers and flags, as Python's
    if _is_union(hint):
        is_text = isinstance(value, str)
        is_none = types.NoneType in typing.get_args(hint) and (value is None or (is_text and value == NONE))
        if is_none or (is_text and value in words_of(hint)):
            return None if is_none else value
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) is typing.Literal:
        hint = str  # which one, the choices tell
    if typing.get_origin(hint) is tuple and isinstance(value, list | tuple | str):
        kind = typing.get_args(hint)[0]
        if isinstance(value, str):
            try:
                value = _parse_list(value, hint)
            except ValueError:
                raise ConfigError(f"{name}: expected {_describe(hint)}, got {value!r}") from None
        return tuple(element if kind is Any else _typed(name, element, kind) for element in value)
    if typing.get_origin(hint) is Mapping and isinstance(value, Mapping):
        return dict(value)
    if hint is Path and isinstance(value, str) and value:
        return Path(value)
    wrong_bool = isinstance(value, bool) and hint is not bool
    if hint in (int, float) and isinstance(value, int | float) and not wrong_bool and (hint is float or value % 1 == 0):
        try:
            return hint(value)
        except OverflowError:
            raise ConfigError(f"{name}: expected {_describe(hint)}, got one too large for a float") from None
    if wrong_bool or not isinstance(value, typing.get_origin(hint) or hint):
        raise ConfigError(f"{name}: expected {_describe(hint)}, got {value!r}")
    return value


def _check_range(setting: dataclasses.Field[Any], value: Any) -> None:
    if (check := setting.metadata.get("check")) is not None:
        check(value)
    minimum, maximum, above, choices = (setting.metadata.get(k) for k in ("minimum", "maximum", "above", "choices"))
    if choices and value not in choices:
        raise ConfigError(f"{setting.name}: expected one of {', '.join(choices)}; got {value!r}")
    if not isinstance(value, int | float) or isinstance(value, bool):
        return
    wrong = math.isnan(value) or math.isinf(value)
    wrong |= minimum is not None and value < minimum
    wrong |= maximum is not None and value > maximum
    wrong |= above is not None and value <= above
    if wrong:
        kind = "whole" if str(setting.type).startswith("int") else "finite"
        allowed = range_of(setting, in_full=True)
        raise ConfigError(f"{setting.name}: expected a {kind} number {allowed}".rstrip() + f", got {value!r}")


def range_of(setting: dataclasses.Field[Any], *, in_full: bool = False) -> str:
    """A setting's allowed range in words; empty when everything of its type is allowed.

    Args:
        setting: The setting.
        in_full: Whether to tell a maximum, too, that is only what a format can hold.
    """
    minimum, maximum, above, choices = _limits_of(setting, in_full=in_full)
    if choices:
        return "one of " + ", ".join(choices)
    if minimum is not None and maximum is not None:
        return f"from {minimum:,} to {maximum:,}"
    if minimum is not None:
        return f"of at least {minimum:,}"
    if above is not None and maximum is not None:
        return f"above {above:,}, up to {maximum:,}"
    return f"above {above:,}" if above is not None else ""


def interval_of(setting: dataclasses.Field[Any]) -> str:
    """What :func:`range_of` says, with the range as click writes those of options: x>=0, 0<x<=1."""
    minimum, maximum, above, choices = _limits_of(setting)
    if choices:
        return range_of(setting)
    if maximum is not None:
        return f"{f'{minimum}<=' if minimum is not None else f'{above}<' if above is not None else ''}x<={maximum}"
    return f"x>={minimum}" if minimum is not None else f"x>{above}" if above is not None else ""


def _limits_of(setting: dataclasses.Field[Any], *, in_full: bool = False) -> tuple[Any, Any, Any, Any]:
    minimum, maximum, above, choices = (setting.metadata.get(k) for k in ("minimum", "maximum", "above", "choices"))
    return minimum, None if maximum is not None and maximum > _FAR and not in_full else maximum, above, choices


def _describe(hint: Any) -> str:
    origin = typing.get_origin(hint)
    if origin is tuple:
        numbers = typing.get_args(hint)[0] is int
        return "whole numbers with commas between them" if numbers else "names with commas between them, or a JSON list"
    kinds = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        Path: "a path",
        Mapping: "a table",
    }
    return kinds.get(origin or hint, str(hint))


def read_table(file: Path, kind: str, known: list[str]) -> dict[str, Any]:
    """The settings in a TOML file.

    Args:
        file: The file.
        kind: What it is, for the error message.
        known: The keys that it may have.

    Raises:
        ConfigError: It cannot be read, is no TOML, or has another key; the message names it.
    """
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"cannot read the {kind} {file}: {error.strerror}") from error
    except ValueError as error:  # of TOML or of UTF-8
        raise ConfigError(f"{file} is no TOML: {error}") from error
    try:
        check_keys(values, known)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
    return values


def check_keys(keys: Iterable[str], known: list[str]) -> None:
    """Raises ConfigError for a key that is not known, with those that are near."""
    for key in keys:
        if key not in known:
            raise ConfigError(f"{key}: there is no such setting; {nearest(key, known)}")


def nearest(name: str, known: list[str], listing: str = "--help") -> str:
    """Advice for a name that is not known.

    Args:
        name: The name.
        known: Those that there are.
        listing: What lists them, if they are many.
    """
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"{listing} lists them" if len(known) > _MANY else f"expected one of {', '.join(known)}"
