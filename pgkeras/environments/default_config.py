"""Default settings of an environment without a preset, chosen by its action space."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pgkeras.environments.single import action_space_of, find_spec, spaces_of
from pgkeras.errors import EnvironmentSetupError, UnsupportedSpaceError
from pgkeras.settings.config import DEFAULT, Config, preset_for, resolve
from pgkeras.settings.effect import OF_SPACES, check_effect_in
from pgkeras.settings.recipe import Recipe
from pgkeras.spaces import ActionSpace, Box, leaves

__all__ = ["CONTINUOUS", "DISCRETE", "LONGEST_EPISODE", "check_effect_here", "config_for"]

CONTINUOUS = "continuous"
"""Preset for environments with continuous actions that have no preset."""

DISCRETE = "discrete"
"""Preset for environments with discrete actions that have no preset."""


LONGEST_EPISODE = 10_000
"""Episodes are truncated after this many steps if neither the environment nor a setting has a limit.

Training needs whole episodes, and an untrained policy may never end one, as in CliffWalking."""


def config_for(
    env_id: str,
    preset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    action_space: ActionSpace | None = None,
) -> Config:
    """Returns the settings for an environment; see :func:`pgkeras.settings.config.resolve`.

    If ``preset`` is None and the environment has no preset, selects one by its action space; for this, the environment
    is created once. If the environment has no limit on the length of episodes, sets :data:`LONGEST_EPISODE`.

    Args:
        env_id: A gymnasium id, or ``module:id``.
        preset: Name of a preset.
        overrides: Settings that replace those of the preset.
        action_space: The action space, if it is known without creating the environment.

    Raises:
        ConfigError: The preset or a setting does not exist, or a value is invalid.
    """
    config = resolve(env_id, preset, overrides)
    if preset is not None or preset_for(env_id) != DEFAULT:
        return config
    try:
        actions = action_space or action_space_of(Recipe.read(config.to_json()))
    except (EnvironmentSetupError, UnsupportedSpaceError):
        return config  # raised again on the first play, unless another vectorization can create it
    is_continuous = any(isinstance(leaf, Box) for _, leaf in leaves(actions))
    config = resolve(env_id, CONTINUOUS if is_continuous else DISCRETE, overrides)
    if action_space is not None or config.max_episode_steps is not None or not _is_unlimited(env_id):
        return config
    return dataclasses.replace(config, max_episode_steps=LONGEST_EPISODE)


def check_effect_here(config: Config, given: Mapping[str, Any]) -> None:
    """Raises an error for settings that have no effect with the spaces of the configured environment.

    The environment is created once if the effect of a given setting depends on its spaces.

    Args:
        config: All settings of the run.
        given: The settings that the caller named.

    Raises:
        ConfigError: See :func:`pgkeras.settings.effect.check_effect_in`.
        UnsupportedSpaceError: See :func:`pgkeras.settings.effect.check_effect_in`.
    """
    if not any(given.get(name) is not None for name in OF_SPACES):
        return
    try:
        spaces = spaces_of(Recipe.read(config.to_json()))
    except (EnvironmentSetupError, UnsupportedSpaceError):
        return  # raised again on the first play, unless another vectorization can create it
    check_effect_in(config, given, *spaces)


def _is_unlimited(env_id: str) -> bool:
    spec = find_spec(env_id)
    # Environments with a vector entry point truncate episodes themselves.
    return spec.max_episode_steps is None and spec.vector_entry_point is None
