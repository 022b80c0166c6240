"""An episode source whose episodes are played by Ray actors."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pgkeras import environments
from pgkeras.cluster.actors import Actors
from pgkeras.cluster.batch import Batch
from pgkeras.engines.sampling import SamplingGraph
from pgkeras.environments.collect import Actor, Watch, quotas
from pgkeras.environments.trajectory import Trajectory
from pgkeras.errors import ConfigError, MissingExtraError
from pgkeras.settings.config import Config

__all__ = ["RayCollector", "RayEpisodes"]

_CONNECT_SECONDS = 5.0


class PortableActor(Actor, Protocol):
    """An actor that can act in another process."""

    graph: SamplingGraph | None
    weights: Sequence[NDArray[Any]]


class RayEpisodes:
    """Episodes of a gymnasium environment, played by Ray actors.

    Args:
        config: The run's settings, with ``ray_address``, ``ray_actors`` and ``ray_actor_cpus``.

    Raises:
        ConfigError: There is no such cluster, it is too small, or it has other versions.
        EnvironmentSetupError: The environment cannot be created in this process or in an actor.
        MissingExtraError: Ray is not installed.
        UnsupportedSpaceError: A space of the environment is not supported.
    """

    is_environment = True

    def __init__(self, config: Config) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError("ray", "ray", "collect on Ray") from error
        if config.vectorization not in ("auto", "plain"):
            raise ConfigError("collect=ray uses plain environments in its actors: leave vectorization at auto")
        for name in ("env_workers", "env_timeout_seconds", "env_restarts"):
            if getattr(config, name) != getattr(Config, name):
                raise ConfigError(
                    f"{name} applies to environments in this process; with collect=ray, an actor that dies or is far "
                    "slower than the others is replaced, and an environment error ends the run: remove the setting"
                )
        if config.act_engine == "tensorflow":
            raise ConfigError(
                "collect=ray acts with LiteRT, because its actors do not load TensorFlow: leave act_engine at auto"
            )
        self._config, self._ray = config, ray
        self._inspect()
        self._owns_connection = not ray.is_initialized()
        if self._owns_connection:
            _connect(ray, config.ray_address)
        try:
            self._actors = Actors(ray, config)
        except BaseException:
            self._disconnect()
            raise

    @property
    def restarts(self) -> int:
        """Number of actors that have been replaced."""
        return self._actors.restarts

    def collector(self, actor: Actor, watch: Watch | None = None) -> RayCollector:
        """See :meth:`pgkeras.runs.sources.EpisodeSource.collector`."""
        return RayCollector(self, actor, watch)

    def advise(self) -> None:
        """See :meth:`pgkeras.runs.sources.EpisodeSource.advise`."""

    def note(self, epoch: int, env_steps: int, mean_return: float, entropy: float) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Kills the actors, and disconnects from Ray if this object connected."""
        self._actors.close()
        self._disconnect()

    def play(
        self, number: int, graph: Any, weights: Any, episodes: int, seed: np.random.SeedSequence, watch: Watch | None
    ) -> Trajectory:
        """Plays a batch of episodes; see :class:`pgkeras.cluster.batch.Batch`.

        Args:
            number: Number of the graph.
            graph: Ray's reference to the graph that chooses the actions.
            weights: Ray's reference to the weights of the graph.
            episodes: Number of episodes.
            seed: Seed of the episodes.
            watch: Callback for the progress. An exception that it raises ends the batch.

        Raises:
            EnvironmentStepError: The environment failed, or actors failed repeatedly.
        """
        wanted = quotas(episodes, self._config.envs)
        shares = {
            part: int(wanted[first : first + count].sum()) for part, (first, count) in enumerate(self._actors.parts)
        }
        return Batch(self._actors, shares, (number, graph, weights, episodes, seed)).play(watch)

    def put(self, value: Any) -> Any:
        """Stores a value for all actors, once per machine. Returns Ray's reference to it."""
        return self._ray.put(value)

    def _inspect(self) -> None:
        config = self._config
        sample = environments.make(environments.Recipe.read(config.to_json()), 1, "plain")
        try:
            look = environments.look(sample, config.seed, config.action_masks)
            self.observation_space, self.action_space, self.mask_size, self.reward_threshold = look
        finally:
            sample.close()

    def _disconnect(self) -> None:
        if self._owns_connection:
            self._ray.shutdown()


class RayCollector:
    """Collects episodes with one actor; see :class:`pgkeras.runs.sources.EpisodeCollector`.

    Args:
        source: The episode source.
        actor: Chooses the actions.
        watch: Callback for the progress.

    Raises:
        ConfigError: The actor cannot act in another process.
    """

    idle_steps = 0
    episodes_lost = 0

    def __init__(self, source: RayEpisodes, actor: Actor, watch: Watch | None) -> None:
        graph = getattr(actor, "graph", None)
        if graph is None:
            raise ConfigError("collect=ray acts with LiteRT, which this policy does not support: use collect=here")
        self._source, self._watch = source, watch
        self._actor: PortableActor = actor  # type: ignore[assignment]  # has a graph
        self._number = id(self)
        self._graph = source.put(graph)

    def collect(self, episodes: int, seed: np.random.SeedSequence) -> Trajectory:
        """Plays episodes. The same seed and weights give the same episodes, whichever actors play them.

        Raises:
            EnvironmentStepError: The environment failed.
        """
        weights = self._source.put([np.asarray(weight) for weight in self._actor.weights])
        return self._source.play(self._number, self._graph, weights, episodes, seed, self._watch)


def _connect(ray: Any, address: str | None) -> None:
    """Connects to a cluster, or starts one on this machine.

    Raises:
        ConfigError: There is no cluster at the address.
    """
    host, _, port = (address or "").rpartition(":")
    if port.isdigit():
        try:
            socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
        except OSError as error:
            raise ConfigError(f"ray_address: cannot connect to {address}: {error}") from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    local = {} if address else {"include_dashboard": False}
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **local)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"ray_address: cannot connect to a Ray cluster at {address}: {error}") from error
