"""Makes one environment from its id, and explains what to do when that fails."""

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

__all__ = ["explained", "find_spec", "make_one", "spaces_of", "vector_options"]

_T = TypeVar("_T")

# By the beginning of their ids: environments that a package's module registers, with the package.
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
    """Makes one environment.

    Args:
        environment: A gymnasium id, or ``module:id`` to import the module that registers it first; or a recipe.
        max_episode_steps: When episodes are truncated; None for the environment's own limit, or the recipe's.
        render_mode: As gymnasium has it.

    Raises:
        EnvironmentSetupError: The id is unknown, or its environment cannot be made.
    """
    recipe = Recipe(environment) if isinstance(environment, str) else environment
    find_spec(recipe.env_id)
    options = dict(recipe.kwargs) if render_mode is None else {**recipe.kwargs, "render_mode": render_mode}
    limit = max_episode_steps if max_episode_steps is not None else recipe.max_episode_steps
    env = explained(
        recipe,
        lambda: gymnasium.make(recipe.env_id, max_episode_steps=limit, disable_env_checker=True, **options),
    )
    check_spaces(env, recipe.env_id)
    return wrap(env, recipe.wrappers)


def action_space_of(recipe: Recipe) -> ActionSpace:
    """The action space of an environment, which is made to look at it.

    Raises:
        EnvironmentSetupError: The environment cannot be made.
        UnsupportedSpaceError: Its action space is not supported.
    """
    return _seen(recipe, lambda env: actions_from_gymnasium(env.action_space))


def spaces_of(recipe: Recipe) -> tuple[Space, ActionSpace]:
    """The spaces of an environment, which is made to look at them: of observations, without action masks, and actions.

    Raises:
        EnvironmentSetupError: The environment cannot be made.
        UnsupportedSpaceError: One of its spaces is not supported.
    """
    return _seen(
        recipe,
        lambda env: (
            without_mask(observations_from_gymnasium(env.observation_space)),
            actions_from_gymnasium(env.action_space),
        ),
    )


def _seen(recipe: Recipe, look: Callable[[gymnasium.Env[Any, Any]], _T]) -> _T:
    """What a look at an environment gives, which is made for it."""
    env = make_one(recipe)
    try:
        return look(env)
    finally:
        env.close()


def find_spec(env_id: str) -> gymnasium.envs.registration.EnvSpec:
    """The registered specification of an id, or of ``module:id``.

    Raises:
        EnvironmentSetupError: The module cannot be imported, or registers no such environment.
    """
    # gymnasium.make takes module:id, but gymnasium.spec does not.
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
        near = _near(name)
        advice = f"did you mean {' or '.join(near)}?" if near else "pgkeras doctor --environments lists the known ones"
        for prefix, (package, registers) in _PACKAGES.items():
            if name.startswith(prefix) and not module:
                there = importlib.util.find_spec(registers.partition(".")[0]) is not None
                install = "" if there else f'install it with: pip install "{package}", and '
                advice = f"the module {registers} registers it: {install}name it {registers}:{name}"
                break
        else:
            if not module:
                advice += " (one that a module registers is named with the module, as in my_module:Mine-v0)"
        if module and (file := getattr(sys.modules[module], "__file__", None)):
            advice += f" (the module {module} that was imported is {file})"
        raise EnvironmentSetupError(f"unknown environment {env_id!r}; {advice}") from error


def _near(name: str) -> list[str]:
    """Ids that are written like a name, each in its newest version."""
    # Those of a namespace are only meant where the name has one: CartPole is not phys2d/CartPole-v1.
    known = [known for known in gymnasium.registry if "/" in name or "/" not in known]
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.6)
    newest: dict[str, tuple[int, str]] = {}
    for env_id in near:
        spec = gymnasium.registry[env_id]
        of_name = f"{spec.namespace}/{spec.name}"
        newest[of_name] = max(newest.get(of_name, (-1, "")), (spec.version or 0, env_id))
    return [env_id for _, env_id in newest.values()][:3]


def explained(recipe: Recipe, build: Callable[[], _T]) -> _T:
    """What ``build`` makes of a recipe.

    Raises:
        EnvironmentSetupError: It fails; the message says what to do.
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
            f"{env_id} needs the module {error.name!r}, which is not installed; install it, or the gymnasium extra "
            'that the environment belongs to, such as: pip install "gymnasium[mujoco]"'
        ) from error
    except (Exception, SystemExit) as error:  # an environment's constructor may raise anything
        given = ", ".join(f"{key}={value!r}" for key, value in recipe.kwargs.items())
        raise EnvironmentSetupError(
            f"{env_id}: its environment cannot be made{f' with {given}' if given else ''}: {describe_error(error)}"
        ) from error


def vector_options(recipe: Recipe) -> dict[str, Any]:
    """The keyword arguments of a vector environment, which takes its limit of steps as one of them."""
    limit = {} if recipe.max_episode_steps is None else {"max_episode_steps": recipe.max_episode_steps}
    return {**recipe.kwargs, **limit}
