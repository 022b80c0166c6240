"""Evaluation: plays episodes with an actor and returns their returns. Does not need TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.environments import Environments
from pgkeras.environments.collect import Actor, Collector, Watch
from pgkeras.errors import UnsupportedSpaceError
from pgkeras.evaluation import statistics
from pgkeras.settings.groups import EnvironmentSettings
from pgkeras.spaces import actions_from_gymnasium, observations_from_gymnasium
from pgkeras.spaces.difference import difference
from pgkeras.spaces.layout import without_mask

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """The results of a number of episodes.

    Args:
        returns: ``[episodes]``, undiscounted.
        lengths: ``[episodes]``, in steps.
    """

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def std(self) -> float:
        """Sample standard deviation of the returns (with n - 1); 0 for a single episode."""
        return float(self.returns.std(ddof=1)) if len(self.returns) > 1 else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean return by the percentile bootstrap over episodes (Efron 1979)."""
        low, high = statistics.bootstrap_interval([self.returns], statistics.mean)
        return float(low), float(high)

    def to_json(self) -> dict[str, Any]:
        """Returns the statistics and every episode's return as JSON values."""
        return {
            "episodes": len(self.returns),
            "mean": self.mean,
            "std": self.std,
            "interval95": list(self.interval),
            "min": float(self.returns.min()),
            "max": float(self.returns.max()),
            "mean_length": float(self.lengths.mean()),
            "returns": self.returns.tolist(),
        }


def evaluate(
    actor: Actor,
    environments: Environments,
    episodes: int,
    seed: int | np.random.SeedSequence,
    watch: Watch | None = None,
    endless_steps: int = EnvironmentSettings.endless_steps,
) -> Evaluation:
    """Plays ``episodes`` episodes, the same ones for the same seed.

    Args:
        actor: The actor.
        environments: The environments.
        episodes: Number of episodes.
        seed: Seed of the environments and of the actions.
        watch: Called after every step.
        endless_steps: Number of steps without the end of an episode after which an error is raised.

    Raises:
        UnsupportedSpaceError: The policy's spaces differ from the environment's.
        EnvironmentStepError: The environment failed.
    """
    observation_space = without_mask(observations_from_gymnasium(environments.observation_space))
    for role, wanted, given in (
        ("observation", actor.spec.observation_space, observation_space),
        ("action", actor.spec.action_space, actions_from_gymnasium(environments.action_space)),
    ):
        if found := difference(wanted, given):
            told = f"the policy's {role} space is {wanted}, but the environment's is {given}: {found}"
            raise UnsupportedSpaceError(told)
    trajectory = Collector(environments, actor, watch, endless_steps).collect(
        episodes, np.random.SeedSequence(seed) if isinstance(seed, int) else seed
    )
    return Evaluation(trajectory.episode_returns, trajectory.lengths)
