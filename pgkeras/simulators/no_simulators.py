"""Stands in for simulators if no episodes are needed: an export needs only the spaces."""

from __future__ import annotations

from typing import Any

import numpy as np

from pgkeras.environments.collect import Watch
from pgkeras.environments.trajectory import Trajectory
from pgkeras.errors import EnvironmentStepError
from pgkeras.simulators.declaration import Declaration
from pgkeras.spaces.masks import mask_size_of

__all__ = ["NoSimulators"]


class NoSimulators:
    """An episode source without simulators; see :class:`pgkeras.runs.sources.EpisodeSource`.

    Args:
        declaration: The spaces that the simulators had declared.
    """

    is_environment = False
    reward_threshold = None
    restarts = idle_steps = episodes_lost = 0

    def __init__(self, declaration: Declaration) -> None:
        self.observation_space, self.action_space = declaration.observation_space, declaration.action_space
        self.mask_size = mask_size_of(declaration.action_space) if declaration.masked else 0

    def collector(self, actor: Any, watch: Watch | None = None) -> NoSimulators:
        """Returns this object."""
        return self

    def collect(self, episodes: int, seed: np.random.SeedSequence) -> Trajectory:
        """Raises an error.

        Raises:
            EnvironmentStepError: Always.
        """
        raise EnvironmentStepError(
            "no simulator is connected: continue with pgkeras train --resume RUN --listen HOST:PORT"
        )

    def advise(self) -> None:
        """Does nothing."""

    def note(self, epoch: int, env_steps: int, mean_return: float, entropy: float) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""
