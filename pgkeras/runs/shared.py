"""Episodes that several processes of a training play together, each some of the slots."""

from __future__ import annotations

import numpy as np

from pgkeras.environments.collect import Actor, Collector, Watch, quotas
from pgkeras.environments.trajectory import Trajectory
from pgkeras.errors import ConfigError, EnvironmentStepError
from pgkeras.reinforce.replicas import Replicas
from pgkeras.runs.sources import GymnasiumEpisodes
from pgkeras.settings.config import Config

__all__ = ["SharedEpisodes"]


class SharedEpisodes(GymnasiumEpisodes):
    """Episodes of this process's share of the slots; collectors give those of all processes, the same to each.

    Args:
        config: The run's settings.
        replicas: The processes.

    Raises:
        ConfigError: There are fewer slots than processes, or episodes come from elsewhere.
        EnvironmentSetupError: The environment cannot be made.
        UnsupportedSpaceError: A space of the environment is not supported.
    """

    def __init__(self, config: Config, replicas: Replicas) -> None:
        if config.collect != "here":
            raise ConfigError(f"collect={config.collect} already plays on other machines; train by one process")
        if config.envs < replicas.processes:
            raise ConfigError(f"envs: expected one for each of the {replicas.processes} processes, got {config.envs}")
        self._replicas = replicas
        bounds = np.linspace(0, config.envs, replicas.processes + 1).astype(int)
        first, end = (int(bound) for bound in bounds[replicas.process : replicas.process + 2])
        super().__init__(config, first, end - first)

    def collector(self, actor: Actor, watch: Watch | None = None) -> _SharedCollector:  # type: ignore[override]
        """See :meth:`pgkeras.runs.sources.EpisodeSource.collector`."""
        share = slice(self.first_slot, self.first_slot + self.slots)
        return _SharedCollector(super().collector(actor, watch), self._replicas, share, self._config.envs)


class _SharedCollector:
    """See :class:`pgkeras.runs.sources.EpisodeCollector`."""

    def __init__(self, collector: Collector, replicas: Replicas, share: slice, slots: int) -> None:
        self._collector, self._replicas, self._share, self._slots = collector, replicas, share, slots
        self.idle_steps = self.episodes_lost = 0

    def collect(self, episodes: int, seed: np.random.SeedSequence) -> Trajectory:
        """Plays this process's share, and takes those of the others.

        Raises:
            EnvironmentStepError: An environment failed, in any process; all of them raise it.
            TrainingError: Another process is gone.
        """
        played = {}
        if quotas(episodes, self._slots)[self._share].any():
            try:
                played = self._collector.collect(episodes, seed)._asdict()
            except EnvironmentStepError as error:
                played = {"error": np.array(str(error))}
        self.idle_steps = self._collector.idle_steps  # of this process
        parts = self._replicas.gather(played)
        for process, part in enumerate(parts):
            if "error" in part:
                raise EnvironmentStepError(f"process {process + 1} of {len(parts)}: {part['error']}")
        return Trajectory.join([Trajectory(**part) for part in parts if part])
