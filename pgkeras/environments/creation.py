"""Makes several copies of an environment, in the way that suits it."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from pgkeras.environments.plain import PlainEnvironments
from pgkeras.environments.pool import PoolEnvironments
from pgkeras.environments.processes import ProcessEnvironments
from pgkeras.environments.protocol import Environments
from pgkeras.environments.single import explained, find_spec, make_one, vector_options
from pgkeras.environments.vector import VectorEnvironments
from pgkeras.environments.watchdog import WatchedEnvironments
from pgkeras.environments.wrappers import keeper_of_statistics, unfit_for_vectors, wrap_vector
from pgkeras.errors import EnvironmentSetupError
from pgkeras.settings.recipe import Recipe

__all__ = ["make"]

logger = logging.getLogger(__name__)


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
        processes = ProcessEnvironments(recipe, slots, workers, timeout, find_spec(recipe.env_id))
        _warn_of_statistics(recipe.env_id, processes.keeper_of_statistics)
        return processes
    environments = _in_this_process(recipe, slots, vectorization)
    return environments if timeout is None else WatchedEnvironments(environments, timeout)


def _in_this_process(recipe: Recipe, slots: int, vectorization: str) -> Environments:
    if vectorization == "envpool":
        return PoolEnvironments(recipe, slots)
    spec = find_spec(recipe.env_id)
    has_entry_point = spec.vector_entry_point is not None
    if vectorization == "vector" and not has_entry_point:
        raise EnvironmentSetupError(f"{recipe.env_id} has no vector entry point; use vectorization=plain")
    only_vector = has_entry_point and spec.entry_point is None  # there are no copies to play in another way
    if vectorization == "vector" or only_vector or (vectorization == "auto" and has_entry_point and slots > 1):
        # gymnasium applies the wrappers of a registration to single environments only.
        unfit = spec.additional_wrappers[0].name if spec.additional_wrappers else unfit_for_vectors(recipe.wrappers)
        if unfit is None:
            vector = wrap_vector(_make_vector(recipe, slots), recipe.wrappers)
            _warn_of_statistics(recipe.env_id, keeper_of_statistics(vector))
            return VectorEnvironments(vector)
        if vectorization == "vector":
            raise EnvironmentSetupError(
                f"{recipe.env_id}: wrapper {unfit} cannot wrap a vector environment; use vectorization=plain"
            )
        logger.warning(
            "%s: wrapper %s cannot wrap its vector entry point: playing plain copies one after the other",
            recipe.env_id,
            unfit,
        )
    copies = [make_one(recipe) for _ in range(slots)]
    _warn_of_statistics(recipe.env_id, keeper_of_statistics(copies[0]))
    if vectorization == "sync":
        makers = [lambda env=env: env for env in copies]
        # Its own resets in the same step keep no copy of a final observation, which a reset may write over.
        return VectorEnvironments(SyncVectorEnv(makers, autoreset_mode=AutoresetMode.DISABLED), spec)
    return PlainEnvironments(copies)


def _warn_of_statistics(env_id: str, keeper: str | None) -> None:
    if keeper is not None:
        logger.warning(
            "%s: %s keeps running statistics, one for each copy, which no checkpoint and no exported policy has: a "
            "resumed run, pgkeras evaluate and pgkeras record begin with new ones. normalize_observations=true has "
            "those of observations in the policy instead, and with rescale=true the scale of rewards does not matter",
            env_id,
            keeper,
        )


def _make_vector(recipe: Recipe, slots: int) -> VectorEnv[Any, Any, Any]:
    mode, options = gymnasium.VectorizeMode.VECTOR_ENTRY_POINT, vector_options(recipe)
    return explained(recipe, lambda: gymnasium.make_vec(recipe.env_id, slots, vectorization_mode=mode, **options))
