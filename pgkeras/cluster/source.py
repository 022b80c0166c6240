"""Episodes that Ray actors play, as the source of a run's episodes."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pgkeras import environments
from pgkeras.cluster.player import Part, Player, versions
from pgkeras.engines.sampling import SamplingGraph
from pgkeras.environments.collect import Actor, Watch, quotas
from pgkeras.environments.trajectory import Trajectory
from pgkeras.errors import ConfigError, EnvironmentSetupError, EnvironmentStepError, MissingExtraError
from pgkeras.settings.config import Config

__all__ = ["RayCollector", "RayEpisodes"]

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.1  # between two looks at limits and signals
_CONNECT_SECONDS = 5.0
_START_SECONDS = 60.0
_SLOW = 3.0  # times as long as all others: it is played again elsewhere
_PATIENCE_SECONDS = 5.0  # but not before
_MOST_FAILURES = 3  # of one actor in one batch


class PortableActor(Actor, Protocol):
    """An actor that can act in another process."""

    graph: SamplingGraph | None
    weights: Sequence[NDArray[Any]]


class RayEpisodes:
    """Episodes of copies of a gymnasium environment, played by Ray actors.

    Args:
        config: The run's settings: ``ray_address``, ``ray_actors`` and ``ray_actor_cpus`` beside the environment's.

    Attributes:
        restarts: How many actors have been started again.

    Raises:
        ConfigError: There is no such cluster, or it is too small, or not of these versions.
        EnvironmentSetupError: The environment cannot be made, here or there.
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
            raise ConfigError("collect=ray plays plain copies in its actors: leave vectorization at auto")
        for name in ("env_workers", "env_timeout_seconds", "env_restarts"):
            if getattr(config, name) != getattr(Config, name):
                raise ConfigError(
                    f"{name}: it is for environments in this process; with collect=ray, an actor that dies or is far "
                    "slower than the others is replaced, and an environment that raises ends the run: leave it"
                )
        if config.act_engine == "tensorflow":
            raise ConfigError("collect=ray acts by LiteRT, since its actors are without TensorFlow: leave act_engine")
        self._config, self._ray = config, ray
        self._look()
        self.restarts = 0
        self._own = not ray.is_initialized()
        if self._own:
            _connect(ray, config.ray_address)
        try:
            self._cpus = config.ray_actor_cpus
            self._parts = _parts(config.envs, self._number_of_actors())
            self._starting: set[int] = set()
            self._players = [self._start(part) for part in range(len(self._parts))]
            self._greet()
        except BaseException:
            self.close()
            raise

    def collector(self, actor: Actor, watch: Watch | None = None) -> RayCollector:
        """See :meth:`pgkeras.runs.sources.EpisodeSource.collector`."""
        return RayCollector(self, actor, watch)

    def advise(self) -> None:
        """See :meth:`pgkeras.runs.sources.EpisodeSource.advise`."""

    def note(self, epoch: int, env_steps: int, mean_return: float, entropy: float) -> None:
        """Nothing: nobody looks on but the run itself."""

    def close(self) -> None:
        """Ends the actors, and Ray if it was started for this."""
        for player in getattr(self, "_players", []):
            with contextlib.suppress(Exception):  # of any kind: it may be gone
                self._ray.kill(player)
        if self._own:
            self._ray.shutdown()

    def play(
        self, number: int, graph: Any, weights: Any, episodes: int, seed: np.random.SeedSequence, watch: Watch | None
    ) -> Trajectory:
        """Has all actors play their parts; what one that fails was to play is played by its successor.

        Args:
            number: Of the graph.
            graph: Ray's reference to what acts.
            weights: Ray's reference to its weights.
            episodes: How many in all.
            seed: Of all of them.
            watch: Is told of what is done. What it raises ends the playing.

        Raises:
            EnvironmentStepError: The environment failed, or an actor did again and again.
        """
        wanted = quotas(episodes, self._config.envs)
        busy = {part: int(wanted[first : first + count].sum()) for part, (first, count) in enumerate(self._parts)}
        order = number, graph, weights, episodes, seed
        pending = {self._players[part].play.remote(*order): part for part, share in busy.items() if share}
        found: dict[int, Part] = {}
        failures = dict.fromkeys(busy, 0)
        patience = dict.fromkeys(busy, 1.0)
        began = {part: self._beginning(part) for part in busy}

        def play_again(part: int) -> None:
            pending[self._again(part, order)] = part
            began[part] = self._beginning(part)

        try:
            while pending:
                ready, _ = self._ray.wait(list(pending), num_returns=1, timeout=_LOOK_SECONDS)
                for reference in ready:
                    part = pending.pop(reference)
                    try:
                        found[part] = self._got(reference)
                        self._starting.discard(part)
                    except self._ray.exceptions.RayActorError as error:
                        failures[part] += 1
                        if failures[part] > _MOST_FAILURES:
                            often = f"a Ray actor died {failures[part]} times in one batch of episodes"
                            raise EnvironmentStepError(f"{often}, the last time so: {error}") from error
                        logger.warning("a Ray actor has died; its episodes are played again by another")
                        play_again(part)
                if len(pending) == 1 and found:
                    ((reference, part),) = pending.items()
                    if self._is_late((time.monotonic() - began[part]) / patience[part], found):
                        del pending[reference]
                        patience[part] *= 2  # or episodes that do take so long would be begun again without end
                        late = "a Ray actor takes far longer than all others; its episodes are played again by another"
                        logger.warning(late)
                        play_again(part)
                if watch is not None:
                    watch(sum(f.trajectory.steps for f in found.values()), sum(busy[part] for part in found))
        except BaseException:
            for part in pending.values():  # an actor plays one batch after the other, and this one's rest is of no use
                self._replace(part)
            raise
        return Trajectory.join([found[part].trajectory for part in sorted(found)])

    def put(self, value: Any) -> Any:
        """Puts a value where all actors find it, once for each machine."""
        return self._ray.put(value)

    def _look(self) -> None:
        config = self._config
        sample = environments.make(environments.Recipe.read(config.to_json()), 1, "plain")
        try:
            look = environments.look(sample, config.seed, config.action_masks)
            self.observation_space, self.action_space, self.mask_size, self.reward_threshold = look
        finally:
            sample.close()

    def _number_of_actors(self) -> int:
        there = self._ray.cluster_resources().get("CPU", 0.0)
        fit = _fitting(there, self._cpus) if self._cpus else self._config.envs
        wanted = self._config.ray_actors
        if fit < (wanted or 1):
            raise ConfigError(
                f"{wanted or 1} Ray actors of {self._cpus:g} CPUs do not fit into the cluster, which has {there:g}: "
                "lower ray_actors or ray_actor_cpus"
            )
        return min(wanted or fit, self._config.envs)

    def _start(self, part: int) -> Any:
        first, count = self._parts[part]
        self._starting.add(part)
        actor = self._ray.remote(num_cpus=self._cpus, max_restarts=0)(Player)
        return actor.remote(self._config.to_json(), first, count, self._config.envs, self._config.endless_steps)

    def _greet(self) -> None:
        greetings = [player.hello.remote() for player in self._players]
        _, late = self._ray.wait(greetings, num_returns=len(greetings), timeout=_START_SECONDS)
        if late:
            free = self._ray.available_resources().get("CPU", 0.0)
            raise ConfigError(
                f"{len(late)} of {len(greetings)} Ray actors have not started within {_START_SECONDS:g} s; the cluster "
                f"has {free:g} CPUs free, and each takes {self._cpus:g}: lower ray_actors or ray_actor_cpus"
            )
        for greeting in greetings:
            try:
                there = self._got(greeting)
            except (EnvironmentSetupError, EnvironmentStepError) as error:
                raise EnvironmentSetupError(
                    f"a Ray actor cannot make {self._config.env_id}, though this process can: {error}; install it on "
                    "every machine of the cluster, and name it module:id"
                ) from error
            except self._ray.exceptions.RayActorError as error:
                raise ConfigError(f"a Ray actor does not start: {error}") from error
            if there != versions():
                raise ConfigError(f"a Ray actor has {_listed(there)}, but this process {_listed(versions())}")
        self._starting.clear()

    def _got(self, reference: Any) -> Any:
        """The value of a reference. What failed there fails here, as what it was."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            raise cause from error

    def _replace(self, part: int) -> None:
        with contextlib.suppress(Exception):  # of any kind: it may be gone
            self._ray.kill(self._players[part])
        self._players[part] = self._start(part)

    def _again(self, part: int, order: tuple[Any, ...]) -> Any:
        self._replace(part)
        self.restarts += 1
        return self._players[part].play.remote(*order)

    def _beginning(self, part: int) -> float:
        """When an actor that is asked to play now begins at the latest: one that was replaced starts first."""
        return time.monotonic() + (_START_SECONDS if part in self._starting else 0.0)

    def _is_late(self, seconds: float, found: dict[int, Part]) -> bool:
        slowest = max(part.seconds for part in found.values())
        return seconds > _PATIENCE_SECONDS + _SLOW * slowest


class RayCollector:
    """Collects episodes by one actor; see :class:`pgkeras.runs.sources.EpisodeCollector`.

    Args:
        source: The actors.
        actor: What chooses actions.
        watch: Is told of progress.

    Raises:
        ConfigError: The actor cannot act in another process.
    """

    idle_steps = 0
    episodes_lost = 0

    def __init__(self, source: RayEpisodes, actor: Actor, watch: Watch | None) -> None:
        graph = getattr(actor, "graph", None)
        if graph is None:
            raise ConfigError("collect=ray acts by LiteRT, and this actor is not computed by it")
        self._source, self._watch = source, watch
        self._actor: PortableActor = actor  # type: ignore[assignment]  # it has a graph
        self._number = id(self)
        self._graph = source.put(graph)

    def collect(self, episodes: int, seed: np.random.SeedSequence) -> Trajectory:
        """Plays episodes: the same ones for the same seed and weights, wherever they are played.

        Raises:
            EnvironmentStepError: The environment failed.
        """
        weights = self._source.put([np.asarray(weight) for weight in self._actor.weights])
        return self._source.play(self._number, self._graph, weights, episodes, seed, self._watch)


def _connect(ray: Any, address: str | None) -> None:
    """Connects to a cluster, or starts one on this machine.

    Raises:
        ConfigError: Nobody answers there.
    """
    host, _, port = (address or "").rpartition(":")
    if port.isdigit():
        try:
            socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
        except OSError as error:
            raise ConfigError(f"ray_address: nobody answers at {address}: {error}") from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    local = {} if address else {"include_dashboard": False}
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **local)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"ray_address: no Ray cluster answers at {address}: {error}") from error


def _parts(slots: int, actors: int) -> list[tuple[int, int]]:
    """For each actor the first of its slots, and how many it has."""
    counts = [slots // actors + (i < slots % actors) for i in range(actors)]
    return [(sum(counts[:i]), count) for i, count in enumerate(counts)]


def _fitting(cpus: float, each: float) -> int:
    """How many actors of so many CPUs each fit; 7 CPUs hold a hundred of 0.07, though 7 / 0.07 is less in floats."""
    return int(round(cpus / each, 6))


def _listed(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())
