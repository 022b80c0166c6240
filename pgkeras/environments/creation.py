"""Creates several copies of an environment, by its vector entry point, in this process or in worker processes."""

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
from pgkeras.environments.single import call_with_setup_errors, find_spec, make_one, vector_options
from pgkeras.environments.vector import VectorEnvironments
from pgkeras.environments.watchdog import WatchedEnvironments
from pgkeras.environments.wrappers import not_for_vectors, statistics_owner, wrap_vector
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
    """Creates ``slots`` copies of an environment.

    Args:
        environment: A gymnasium id, ``module:id`` to first import the module that registers it, or a recipe.
        slots: Number of copies.
        vectorization: "vector" for the environment's vector entry point; "plain" for copies stepped one after the
            other; "sync" for the same through gymnasium's SyncVectorEnv; "async" for copies in worker processes;
            "envpool" for EnvPool's environment of that name. "auto" selects the vector entry point if it exists,
            supports every wrapper, and ``slots`` is more than 1, and plain copies otherwise.
        max_episode_steps: Episodes are truncated after this many steps; None for the recipe's or environment's limit.
        workers: Number of processes of "async"; None for one per core.
        timeout: Time limit in seconds of a reset or step of all copies; None for no limit.

    Raises:
        EnvironmentSetupError: The id is unknown, the environment cannot be created, or it does not support
            ``vectorization``.
        MissingExtraError: EnvPool is not installed.
    """
    recipe = Recipe(environment) if isinstance(environment, str) else environment
    if max_episode_steps is not None:
        recipe = replace(recipe, max_episode_steps=max_episode_steps)
    if vectorization == "async":
        processes = ProcessEnvironments(recipe, slots, workers, timeout, find_spec(recipe.env_id))
        _warn_of_statistics(recipe.env_id, processes.statistics_owner)
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
    only_vector = has_entry_point and spec.entry_point is None  # single copies cannot be created
    if vectorization == "vector" or only_vector or (vectorization == "auto" and has_entry_point and slots > 1):
        # gymnasium applies registered wrappers to single environments only.
        unsupported = spec.additional_wrappers[0].name if spec.additional_wrappers else not_for_vectors(recipe.wrappers)
        if unsupported is None:
            vector = wrap_vector(_make_vector(recipe, slots), recipe.wrappers)
            _warn_of_statistics(recipe.env_id, statistics_owner(vector))
            return VectorEnvironments(vector)
        if vectorization == "vector":
            raise EnvironmentSetupError(
                f"{recipe.env_id}: wrapper {unsupported} cannot wrap a vector environment; use vectorization=plain"
            )
        logger.warning(
            "%s: wrapper %s cannot wrap the vector entry point; falling back to vectorization=plain",
            recipe.env_id,
            unsupported,
        )
    copies = [make_one(recipe) for _ in range(slots)]
    _warn_of_statistics(recipe.env_id, statistics_owner(copies[0]))
    if vectorization == "sync":
        makers = [lambda env=env: env for env in copies]
        # SAME_STEP does not copy the final observation, and a reset may overwrite it.
        return VectorEnvironments(SyncVectorEnv(makers, autoreset_mode=AutoresetMode.DISABLED), spec)
    return PlainEnvironments(copies)


def _warn_of_statistics(env_id: str, owner: str | None) -> None:
    if owner is not None:
        logger.warning(
            "%s: %s keeps running statistics in each copy. Checkpoints and exported policies do not contain them, so "
            "a resumed run, pgkeras evaluate and pgkeras record start with empty ones. Use normalize_observations=true "
            "to keep the statistics of observations in the policy; with rescale=true the scale of rewards has no "
            "effect",
            env_id,
            owner,
        )


def _make_vector(recipe: Recipe, slots: int) -> VectorEnv[Any, Any, Any]:
    mode, options = gymnasium.VectorizeMode.VECTOR_ENTRY_POINT, vector_options(recipe)
    return call_with_setup_errors(
        recipe, lambda: gymnasium.make_vec(recipe.env_id, slots, vectorization_mode=mode, **options)
    )
