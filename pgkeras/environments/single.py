"""Creates one environment from its id. Error messages say how to fix a failure."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import gymnasium

from pgkeras.environments.check import check_spaces, describe_error
from pgkeras.environments.wrappers import wrap
from pgkeras.errors import EnvironmentSetupError
from pgkeras.settings.recipe import Recipe
from pgkeras.spaces import ActionSpace, Space, actions_from_gymnasium, observations_from_gymnasium
from pgkeras.spaces.layout import without_mask

__all__ = ["action_space_of", "call_with_setup_errors", "find_spec", "make_one", "spaces_of", "vector_options"]

_T = TypeVar("_T")

# Prefix of environment ids -> package, and the module that registers the environments.
_PACKAGES = {
    "ALE/": ("gymnasium[atari]", "ale_py"),
    "BabyAI-": ("minigrid", "minigrid"),
    "FrankaKitchen-": ("gymnasium-robotics", "gymnasium_robotics"),
    "Fetch": ("gymnasium-robotics", "gymnasium_robotics"),
    "MinAtar/": ("minatar", "minatar.gym"),
    "MiniGrid-": ("minigrid", "minigrid"),
    "MiniWorld-": ("miniworld", "miniworld"),
    "Panda": ("panda-gym", "panda_gym"),
    "PointMaze": ("gymnasium-robotics", "gymnasium_robotics"),
    "dm_control/": ("shimmy[dm-control]", "shimmy"),
    "highway-": ("highway-env", "highway_env"),
}


def make_one(
    environment: str | Recipe, max_episode_steps: int | None = None, render_mode: str | None = None
) -> gymnasium.Env[Any, Any]:
    """Creates one environment.

    Args:
        environment: A gymnasium id, ``module:id`` to first import the module that registers it, or a recipe.
        max_episode_steps: Episodes are truncated after this many steps; None for the recipe's or environment's limit.
        render_mode: See :func:`gymnasium.make`.

    Raises:
        EnvironmentSetupError: The id is unknown, or the environment cannot be created.
    """
    recipe = Recipe(environment) if isinstance(environment, str) else environment
    find_spec(recipe.env_id)
    options = dict(recipe.kwargs) if render_mode is None else {**recipe.kwargs, "render_mode": render_mode}
    limit = max_episode_steps if max_episode_steps is not None else recipe.max_episode_steps
    env = call_with_setup_errors(
        recipe,
        lambda: gymnasium.make(recipe.env_id, max_episode_steps=limit, disable_env_checker=True, **options),
    )
    check_spaces(env, recipe.env_id)
    return wrap(env, recipe.wrappers)


def action_space_of(recipe: Recipe) -> ActionSpace:
    """Returns the action space of an environment, which is created for this and closed.

    Raises:
        EnvironmentSetupError: The environment cannot be created.
        UnsupportedSpaceError: The action space is not supported.
    """
    return _inspect(recipe, lambda env: actions_from_gymnasium(env.action_space))


def spaces_of(recipe: Recipe) -> tuple[Space, ActionSpace]:
    """Returns the observation space, without action masks, and the action space of an environment.

    The environment is created for this and closed.

    Raises:
        EnvironmentSetupError: The environment cannot be created.
        UnsupportedSpaceError: A space is not supported.
    """
    return _inspect(
        recipe,
        lambda env: (
            without_mask(observations_from_gymnasium(env.observation_space)),
            actions_from_gymnasium(env.action_space),
        ),
    )


def _inspect(recipe: Recipe, read: Callable[[gymnasium.Env[Any, Any]], _T]) -> _T:
    """Creates an environment, returns ``read(environment)``, and closes it."""
    env = make_one(recipe)
    try:
        return read(env)
    finally:
        env.close()


def find_spec(env_id: str) -> gymnasium.envs.registration.EnvSpec:
    """Returns the registered specification of an id, or of ``module:id``.

    Raises:
        EnvironmentSetupError: The module cannot be imported, or does not register the environment.
    """
    # gymnasium.make accepts module:id, but gymnasium.spec does not.
    module, _, name = env_id.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except (Exception, SystemExit) as error:  # a module may raise anything
            raise EnvironmentSetupError(
                f"{env_id}: cannot import module {module!r}, which should register it: {type(error).__name__}: {error}"
            ) from error
    try:
        return gymnasium.spec(name)
    except gymnasium.error.Error as error:
        similar = _similar_ids(name)
        advice = f"did you mean {' or '.join(similar)}?" if similar else "pgkeras doctor --environments lists known ids"
        for prefix, (package, registers) in _PACKAGES.items():
            if name.startswith(prefix) and not module:
                installed = importlib.util.find_spec(registers.partition(".")[0]) is not None
                install = "" if installed else f'install it with: pip install "{package}", and '
                advice = f"the module {registers} registers it: {install}use the id {registers}:{name}"
                break
        else:
            if not module:
                advice += " (if a module registers it, put the module first, as in my_module:Mine-v0)"
        if module and (file := getattr(sys.modules[module], "__file__", None)):
            advice += f" (the imported module {module} is {file})"
        raise EnvironmentSetupError(f"unknown environment {env_id!r}; {advice}") from error


def _similar_ids(name: str) -> list[str]:
    """Returns ids that are spelled similarly, each in its newest version."""
    # Ids with a namespace match only names with one: CartPole is not phys2d/CartPole-v1.
    known = [known for known in gymnasium.registry if "/" in name or "/" not in known]
    newest: dict[str, tuple[int, str]] = {}
    for env_id in difflib.get_close_matches(name, known, n=5, cutoff=0.6):
        spec = gymnasium.registry[env_id]
        of_name = f"{spec.namespace}/{spec.name}"
        newest[of_name] = max(newest.get(of_name, (-1, "")), (spec.version or 0, env_id))
    return [env_id for _, env_id in newest.values()][:3]


def call_with_setup_errors(recipe: Recipe, build: Callable[[], _T]) -> _T:
    """Returns ``build()``, and turns its errors into setup errors.

    Raises:
        EnvironmentSetupError: ``build`` fails; the message says what to do.
    """
    env_id = recipe.env_id
    try:
        return build()
    except gymnasium.error.DependencyNotInstalled as error:
        extra = re.search(r"gymnasium\[([\w-]+)\]", str(error))
        command = f'pip install "gymnasium[{extra[1]}]"' if extra else str(error)
        raise EnvironmentSetupError(
            f"{env_id} needs packages that are not installed; install them with: {command}"
        ) from error
    except ModuleNotFoundError as error:
        raise EnvironmentSetupError(
            f"{env_id} needs the module {error.name!r}, which is not installed; install it, or the environment's "
            'gymnasium extra, such as: pip install "gymnasium[mujoco]"'
        ) from error
    except (Exception, SystemExit) as error:  # an environment's constructor may raise anything
        given = ", ".join(f"{key}={value!r}" for key, value in recipe.kwargs.items())
        raise EnvironmentSetupError(
            f"{env_id}: the environment cannot be created{f' with {given}' if given else ''}: {describe_error(error)}"
        ) from error


def vector_options(recipe: Recipe) -> dict[str, Any]:
    """Returns the keyword arguments of a vector environment, with the limit of steps as one of them."""
    limit = {} if recipe.max_episode_steps is None else {"max_episode_steps": recipe.max_episode_steps}
    return {**recipe.kwargs, **limit}
