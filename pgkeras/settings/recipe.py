"""Recipe: how one environment is made, as plain data that a file or another process can hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from pgkeras.errors import ConfigError

__all__ = ["READ", "Recipe", "WrapperCall", "check_kwargs", "slug"]

READ = ("env_kwargs", "wrappers", "max_episode_steps")
"""The settings that make a recipe, beside ``env_id``."""


@dataclass(frozen=True)
class WrapperCall:
    """One wrapper and what it is called with.

    Args:
        name: ``module:Name``, or the name of one of ``gymnasium.wrappers``.
        kwargs: Keyword arguments beside the environment.
    """

    name: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, entry: Any) -> Self:
        """Reads an entry of the setting ``wrappers``: a name, or a table of ``name`` and ``kwargs``.

        Raises:
            ConfigError: It is neither.
        """
        if isinstance(entry, str) and entry.strip():
            return cls(entry.strip())
        if isinstance(entry, Mapping) and isinstance(entry.get("name"), str) and set(entry) <= {"name", "kwargs"}:
            kwargs = entry.get("kwargs", {})
            if isinstance(kwargs, Mapping):
                check_kwargs(kwargs, f"wrappers: {entry['name']}")
                return cls(entry["name"], dict(kwargs))
        raise ConfigError(
            "wrappers: expected names such as TimeAwareObservation or my_module:MyWrapper, or tables such as "
            f'{{"name": "FrameStackObservation", "kwargs": {{"stack_size": 4}}}}; got {entry!r}'
        )


@dataclass(frozen=True)
class Recipe:
    """How one environment is made.

    Args:
        env_id: A gymnasium id, or ``module:id`` to import the module that registers it first.
        kwargs: Keyword arguments of the environment.
        wrappers: Wrappers, applied in this order: the first is the innermost.
        max_episode_steps: When episodes are truncated; None for the environment's own limit.
    """

    env_id: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrappers: tuple[WrapperCall, ...] = ()
    max_episode_steps: int | None = None

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Self:
        """Reads ``env_id``, ``env_kwargs``, ``wrappers`` and ``max_episode_steps`` from a run's settings.

        Raises:
            ConfigError: One of them is malformed.
        """
        return cls(
            settings["env_id"],
            dict(settings.get("env_kwargs") or {}),
            tuple(WrapperCall.read(entry) for entry in settings.get("wrappers") or ()),
            settings.get("max_episode_steps"),
        )


def check_kwargs(kwargs: Mapping[str, Any] | None, name: str = "env_kwargs") -> None:
    """Checks that keyword arguments can be written into a run's settings, and so be read again.

    Raises:
        ConfigError: A key is no name, or a value none of JSON's.
    """
    for key, value in (kwargs or {}).items():
        if not isinstance(key, str) or not key.isidentifier():
            raise ConfigError(f"{name}: expected names of arguments, got {key!r}")
        try:
            kept = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{name}.{key}: expected a number, text, list or table, got {value!r}") from error
        if kept != value:
            raise ConfigError(
                f"{name}.{key}: {value!r} would be read back as {kept!r} from a run's settings; give it in that form"
            )


def slug(env_id: str) -> str:
    """An environment's id as the name of files and policies: ``ale_py:ALE/Pong-v5`` becomes ``ale-pong-v5``."""
    return env_id.rpartition(":")[2].replace("/", "-").lower()
