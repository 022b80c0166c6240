"""EnvPool environments, which are stepped by C++ threads."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from pgkeras.environments.protocol import DelegatingEnvironments, Rows
from pgkeras.environments.single import vector_options
from pgkeras.environments.trajectory import Tape
from pgkeras.environments.vector import VectorEnvironments
from pgkeras.errors import EnvironmentSetupError, extra_needed
from pgkeras.settings.recipe import Recipe

__all__ = ["PoolEnvironments"]


class PoolEnvironments(DelegatingEnvironments):
    """An EnvPool environment (Weng et al. 2022), named by its EnvPool id, such as Pong-v5.

    EnvPool has its own implementations. They may differ from gymnasium's environments of the same name, and the same
    seeds give other episodes. EnvPool accepts seeds only when it creates a pool, so every reset creates a new pool.

    Args:
        recipe: The environment; its keyword arguments are EnvPool settings.
        slots: Number of environments.

    Raises:
        EnvironmentSetupError: EnvPool has no such environment or setting, or the recipe has wrappers.
        MissingExtraError: EnvPool is not installed.
    """

    def __init__(self, recipe: Recipe, slots: int) -> None:
        if recipe.wrappers:
            raise EnvironmentSetupError(
                f"{recipe.env_id}: wrapper {recipe.wrappers[0].name} cannot wrap EnvPool environments; "
                "use vectorization=plain or async"
            )
        self._recipe = recipe
        super().__init__(self._make([0] * slots))
        name = recipe.env_id.rpartition(":")[2]
        threshold = getattr(self._config, "reward_threshold", None)
        self.spec = gymnasium.registry.get(name) or EnvSpec(name, reward_threshold=threshold)
        self._dtype = self.action_space.dtype

    def check(self) -> bool:
        """See :meth:`Environments.check`. EnvPool environments need no check."""
        return False

    def reset(self, seeds: Sequence[int], tape: Rows) -> None:
        """See :meth:`Environments.reset`."""
        self.close()
        self._environments = self._make(seeds)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # EnvPool warns that reset accepts no seeds; the new pool has them
            super().reset(seeds, tape)

    def step(self, t: int, actions: Any, remaining: NDArray[np.int64], tape: Tape) -> bool:
        """See :meth:`Environments.step`."""
        return super().step(t, actions.astype(self._dtype, copy=False), remaining, tape)

    def _make(self, seeds: Sequence[int]) -> VectorEnvironments:
        with extra_needed("envpool", "use vectorization=envpool"):
            import envpool
        recipe = self._recipe
        name, options = recipe.env_id.rpartition(":")[2], vector_options(recipe)
        try:
            pool = envpool.make(name, env_type="gymnasium", num_envs=len(seeds), env_seed=list(seeds), **options)
        except Exception as error:  # EnvPool raises AssertionError, TypeError and more
            raise EnvironmentSetupError(
                f"{name}: EnvPool cannot create this environment: {error}; use vectorization=plain for gymnasium's"
            ) from error
        self._config = pool.spec.config
        return VectorEnvironments(pool)
