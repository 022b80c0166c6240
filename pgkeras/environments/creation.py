"""Creates environments from their ids, and explains what to do when that fails."""

from __future__ import annotations

import difflib
import importlib
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from pgkeras.environments.plain import PlainEnvironments
from pgkeras.environments.pool import PoolEnvironments
from pgkeras.environments.processes import ProcessEnvironments
from pgkeras.environments.protocol import Environments
from pgkeras.environments.vector import VectorEnvironments
from pgkeras.environments.watchdog import WatchedEnvironments
from pgkeras.environments.wrappers import unfit_for_vectors, wrap, wrap_vector
from pgkeras.errors import EnvironmentSetupError
from pgkeras.settings.recipe import Recipe

__all__ = ["make", "make_one"]

logger = logging.getLogger(__name__)

_T = TypeVar("_T")


def make(
    environment: str | Recipe,
    slots: int,
    vectorization: str = "auto",
    max_episode_steps: int | None = None,
    *,
    workers: int | None = None,
    timeout: float | None = None,
) -> Environments:
    """Makes ``slots`` copies of an environment.

    Args:
        environment: A gymnasium id, or ``module:id`` to import the module that registers it first; or a recipe.
        slots: How many copies.
        vectorization: "vector" for the environment's vector entry point, "plain" for copies stepped one after the
            other, "sync" for the same through gymnasium's SyncVectorEnv, "async" for copies in processes of their own,
            "envpool" for EnvPool's environment of that name; "auto" for the vector entry point where there is one,
            every wrapper can wrap it and ``slots`` is more than 1, and for plain copies otherwise.
        max_episode_steps: When episodes are truncated; None for the environment's own limit, or the recipe's.
        workers: How many processes "async" uses; None for one a core.
        timeout: Seconds that a reset or a step of all copies may take; None for any.

    Raises:
        EnvironmentSetupError: The id is unknown, its environment cannot be made, or not in that way.
        MissingExtraError: EnvPool is not installed.
    """
    recipe = Recipe(environment) if isinstance(environment, str) else environment
    if max_episode_steps is not None:
        recipe = replace(recipe, max_episode_steps=max_episode_steps)
    if vectorization == "async":
        return ProcessEnvironments(recipe, slots, workers, timeout, _find_spec(recipe.env_id))
    environments = _in_this_process(recipe, slots, vectorization)
    return environments if timeout is None else WatchedEnvironments(environments, timeout)


def make_one(
    environment: str | Recipe, max_episode_steps: int | None = None, render_mode: str | None = None
) -> gymnasium.Env[Any, Any]:
    """Makes one environment; see :func:`make`."""
    recipe = Recipe(environment) if isinstance(environment, str) else environment
    _find_spec(recipe.env_id)
    options = dict(recipe.kwargs) if render_mode is None else {**recipe.kwargs, "render_mode": render_mode}
    limit = max_episode_steps if max_episode_steps is not None else recipe.max_episode_steps
    env = _made(
        recipe,
        lambda: gymnasium.make(recipe.env_id, max_episode_steps=limit, disable_env_checker=True, **options),
    )
    return wrap(env, recipe.wrappers)


def _in_this_process(recipe: Recipe, slots: int, vectorization: str) -> Environments:
    if vectorization == "envpool":
        return PoolEnvironments(recipe, slots)
    spec = _find_spec(recipe.env_id)
    has_entry_point = spec.vector_entry_point is not None
    if vectorization == "vector" and not has_entry_point:
        raise EnvironmentSetupError(f"{recipe.env_id} has no vector entry point; use vectorization=plain")
    if vectorization == "vector" or (vectorization == "auto" and has_entry_point and slots > 1):
        unfit = unfit_for_vectors(recipe.wrappers)
        if unfit is None:
            return VectorEnvironments(wrap_vector(_make_vector(recipe, slots), recipe.wrappers))
        if vectorization == "vector":
            raise EnvironmentSetupError(
                f"{recipe.env_id}: wrapper {unfit} cannot wrap a vector environment; use vectorization=plain"
            )
        logger.warning(
            "%s: wrapper %s cannot wrap its vector entry point: playing plain copies one after the other",
            recipe.env_id,
            unfit,
        )
    if vectorization == "sync":
        makers = [lambda: make_one(recipe)] * slots
        # Its own resets in the same step keep no copy of a final observation, which a reset may write over.
        return VectorEnvironments(SyncVectorEnv(makers, autoreset_mode=AutoresetMode.DISABLED), spec)
    return PlainEnvironments([make_one(recipe) for _ in range(slots)])


def _make_vector(recipe: Recipe, slots: int) -> VectorEnv[Any, Any, Any]:
    options = dict(recipe.kwargs)
    if recipe.max_episode_steps is not None:
        options["max_episode_steps"] = recipe.max_episode_steps
    mode = gymnasium.VectorizeMode.VECTOR_ENTRY_POINT
    return _made(recipe, lambda: gymnasium.make_vec(recipe.env_id, slots, vectorization_mode=mode, **options))


def _find_spec(env_id: str) -> gymnasium.envs.registration.EnvSpec:
    # gymnasium.make takes module:id, but gymnasium.spec does not.
    module, _, name = env_id.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except Exception as error:  # a module may raise anything
            raise EnvironmentSetupError(
                f"{env_id}: cannot import module {module!r}, which should register it: {type(error).__name__}: {error}"
            ) from error
    try:
        return gymnasium.spec(name)
    except gymnasium.error.Error as error:
        near = difflib.get_close_matches(name, gymnasium.registry, n=3, cutoff=0.6)
        advice = f"did you mean {' or '.join(near)}?" if near else "list them with: pgkeras doctor --environments"
        if name.startswith("ALE/"):
            advice = f'install Atari games with: pip install "gymnasium[atari]", and name it ale_py:{name}'
        raise EnvironmentSetupError(f"environment {env_id!r} is unknown to gymnasium; {advice}") from error


def _made(recipe: Recipe, build: Callable[[], _T]) -> _T:
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
    except Exception as error:  # an environment's constructor may raise anything
        given = ", ".join(f"{key}={value!r}" for key, value in recipe.kwargs.items())
        raise EnvironmentSetupError(
            f"{env_id}: its environment cannot be made{f' with {given}' if given else ''}: "
            f"{type(error).__name__}: {error}"
        ) from error
