"""The settings of an environment that has no preset of its own: they go by what its actions are."""

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
"""The preset of environments with continuous actions that have none of their own."""

DISCRETE = "discrete"
"""The preset of environments with discrete actions that have none of their own."""


LONGEST_EPISODE = 10_000
"""Steps after which an episode is truncated where neither the environment nor a setting says when.

An untrained policy may take for ever to end an episode by itself, as in CliffWalking: whole episodes are what is learnt
from, so it would learn nothing."""


def config_for(
    env_id: str,
    preset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    action_space: ActionSpace | None = None,
) -> Config:
    """Settings for an environment: see :func:`pgkeras.settings.config.resolve`.

    If no preset is named, and none is the environment's own, those for its kind of actions are taken: the environment
    is made once, to look at them. If it has no limit on the length of episodes, it gets :data:`LONGEST_EPISODE`.

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
    try:
        actions = action_space or action_space_of(Recipe.read(config.to_json()))
    except (EnvironmentSetupError, UnsupportedSpaceError):
        return config  # whoever makes it to play it says why, or makes it in another way
    has_numbers = any(isinstance(leaf, Box) for _, leaf in leaves(actions))
    config = resolve(env_id, CONTINUOUS if has_numbers else DISCRETE, overrides)
    if action_space is not None or config.max_episode_steps is not None or not _is_unlimited(env_id):
        return config
    return dataclasses.replace(config, max_episode_steps=LONGEST_EPISODE)


def check_effect_here(config: Config, given: Mapping[str, Any]) -> None:
    """Refuses what was given and changes nothing for the spaces of the configured environment.

    The environment is made once, to look at them, if a setting was given whose effect depends on them.

    Args:
        config: All settings of the run.
        given: Those that the caller asked for by name.

    Raises:
        ConfigError: See :func:`pgkeras.settings.effect.check_effect_in`.
        UnsupportedSpaceError: Likewise.
    """
    if not any(given.get(name) is not None for name in OF_SPACES):
        return
    try:
        spaces = spaces_of(Recipe.read(config.to_json()))
    except (EnvironmentSetupError, UnsupportedSpaceError):
        return  # whoever makes it to play it says why, or makes it in another way
    check_effect_in(config, given, *spaces)


def _is_unlimited(env_id: str) -> bool:
    spec = find_spec(env_id)
    # One that runs its own copies side by side truncates by itself.
    return spec.max_episode_steps is None and spec.vector_entry_point is None
