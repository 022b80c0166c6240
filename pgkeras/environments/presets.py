"""The settings of an environment that has no preset of its own: they go by what its actions are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pgkeras.environments.single import action_space_of
from pgkeras.errors import EnvironmentSetupError, UnsupportedSpaceError
from pgkeras.settings.config import DEFAULT, Config, preset_for, resolve
from pgkeras.settings.recipe import Recipe
from pgkeras.spaces import ArraySpace, Box

__all__ = ["CONTINUOUS", "config_for"]

CONTINUOUS = "continuous"
"""The preset of environments with continuous actions."""


def config_for(
    env_id: str,
    preset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    action_space: ArraySpace | None = None,
) -> Config:
    """Settings for an environment: see :func:`pgkeras.settings.config.resolve`.

    If no preset is named, and none is the environment's own, those for continuous actions are taken where its actions
    are: the environment is made once, to look at them.

    Args:
        env_id: A gymnasium id, or ``module:id``.
        preset: Name of a preset.
        overrides: Settings that go over those of the preset.
        action_space: What the actions are, where no environment has to be made to know.

    Raises:
        ConfigError: No such preset, an unknown key, or a wrong value.
    """
    config = resolve(env_id, preset, overrides)
    if preset is not None or preset_for(env_id) != DEFAULT:
        return config
    continuous = isinstance(action_space, Box) if action_space is not None else _is_continuous(config)
    return resolve(env_id, CONTINUOUS, overrides) if continuous else config


def _is_continuous(config: Config) -> bool:
    try:
        return isinstance(action_space_of(Recipe.read(config.to_json())), Box)
    except (EnvironmentSetupError, UnsupportedSpaceError):
        return False  # whoever makes it to play it says why, or makes it in another way
