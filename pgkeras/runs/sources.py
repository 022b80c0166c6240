"""Where a run's episodes come from: a gymnasium environment, or simulators that connect."""

from __future__ import annotations

import logging
from functools import partial
from typing import Protocol

import numpy as np

from pgkeras import environments
from pgkeras.cores import available
from pgkeras.environments.collect import Actor, Collector, Watch
from pgkeras.environments.restarting import RestartingEnvironments
from pgkeras.environments.trajectory import Trajectory
from pgkeras.settings.config import Config
from pgkeras.spaces import ActionSpace, Space

__all__ = ["EpisodeCollector", "EpisodeSource", "GymnasiumEpisodes", "source_of"]

logger = logging.getLogger(__name__)

# Of slower environments it pays to step several at once, in processes.
_SLOW_STEP_SECONDS = 0.5e-3


class EpisodeCollector(Protocol):
    """Collects episodes by one actor; see :class:`pgkeras.environments.collect.Collector`.

    Attributes:
        idle_steps: Steps of the last batch that belong to none of its episodes.
        episodes_lost: Episodes of the last batch that broke off and were played anew, by others.
    """

    idle_steps: int
    episodes_lost: int

    def collect(self, episodes: int, seed: np.random.SeedSequence) -> Trajectory:
        """Plays episodes.

        Raises:
            EnvironmentStepError: What is played has failed.
        """


class EpisodeSource(Protocol):
    """What a run plays."""

    @property
    def is_environment(self) -> bool:
        """Whether the run's ``env_id`` names an environment that others can make; else it is just a name."""

    @property
    def observation_space(self) -> Space:
        """What it shows."""

    @property
    def action_space(self) -> ActionSpace:
        """What it takes."""

    @property
    def mask_size(self) -> int:
        """Length of its action masks; 0 for none."""

    @property
    def reward_threshold(self) -> float | None:
        """The mean return at which it counts as solved, if it has one."""

    @property
    def restarts(self) -> int:
        """How often it has been started again after a failure."""

    def collector(self, actor: Actor, watch: Watch | None = None) -> EpisodeCollector:
        """Makes a collector.

        Args:
            actor: What chooses the actions.
            watch: Is told of progress, ten times a second or more often. What it raises ends the playing.
        """

    def advise(self) -> None:
        """Says what would make it faster, if anything; called once, after the first batch of episodes."""

    def note(self, epoch: int, env_steps: int, mean_return: float, entropy: float) -> None:
        """Takes note of an epoch that is finished."""

    def close(self) -> None:
        """Frees what it holds."""


def source_of(config: Config) -> EpisodeSource:
    """The source that a run's settings name.

    Raises:
        PgkerasError: Its environment or its cluster cannot be used.
    """
    if config.collect == "ray":
        from pgkeras.cluster.source import RayEpisodes

        return RayEpisodes(config)
    return GymnasiumEpisodes(config)


class GymnasiumEpisodes:
    """Episodes of copies of a gymnasium environment.

    Args:
        config: The run's settings.
        first_slot: Which of the run's slots are played here, the first of them.
        slots: How many; None for all.

    Raises:
        EnvironmentSetupError: The environment cannot be made.
        UnsupportedSpaceError: A space of the environment is not supported.
    """

    is_environment = True

    def __init__(self, config: Config, first_slot: int = 0, slots: int | None = None) -> None:
        self._config = config
        self.first_slot, self.slots = first_slot, config.envs if slots is None else slots
        make = partial(
            environments.make,
            environments.Recipe.read(config.to_json()),
            self.slots,
            config.vectorization,
            workers=config.env_workers,
            timeout=config.env_timeout_seconds,
        )
        self._environments: environments.Environments = (
            RestartingEnvironments(make, config.env_restarts) if config.env_restarts else make()
        )
        try:
            look = environments.look(self._environments, config.seed, config.action_masks)
        except BaseException:
            self._environments.close()  # whose processes nobody else knows of
            raise
        self.observation_space, self.action_space, self.mask_size, self.reward_threshold = look
        self._first: Collector | None = None

    @property
    def restarts(self) -> int:
        """See :class:`EpisodeSource`."""
        return getattr(self._environments, "restarts", 0)

    def collector(self, actor: Actor, watch: Watch | None = None) -> Collector:
        """See :meth:`EpisodeSource.collector`."""
        collector = Collector(
            self._environments,
            actor,
            watch,
            self._config.endless_steps,
            first=self.first_slot,
            slots=self._config.envs,
        )
        self._first = self._first or collector
        return collector

    def advise(self) -> None:
        """Says that environments are slow which could be stepped on several cores."""
        cores, seconds = available(), 0.0 if self._first is None else self._first.step_seconds
        plain = isinstance(self._environments, environments.PlainEnvironments) and self._environments.slots > 1
        if self._config.vectorization == "auto" and plain and cores > 1 and seconds > _SLOW_STEP_SECONDS:
            logger.warning(
                "a step of %s takes %.1f ms, and is taken on one of %d cores; --set vectorization=async uses all",
                self._config.env_id,
                seconds * 1e3,
                cores,
            )

    def note(self, epoch: int, env_steps: int, mean_return: float, entropy: float) -> None:
        """Nothing: nobody looks on but the run itself."""

    def close(self) -> None:
        """See :meth:`EpisodeSource.close`."""
        self._environments.close()
