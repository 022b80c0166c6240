"""Starts, checks and replaces the Ray actors of a run."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Any, NamedTuple

from pgkeras.cluster.player import Player, versions
from pgkeras.errors import ConfigError, EnvironmentSetupError, EnvironmentStepError
from pgkeras.settings.config import Config

__all__ = ["Actors"]

logger = logging.getLogger(__name__)

_START_SECONDS = 60.0


class _Start(NamedTuple):
    """A pending start of an actor."""

    reference: Any  # Ray's reference to the result of Player.start
    deadline: float


class Actors:
    """Ray actors. Each plays a part of the slots. Until it has started, other actors play its part.

    Args:
        ray: The module, connected to a cluster.
        config: The run's settings.

    Attributes:
        parts: The first slot and the number of slots of each actor.
        restarts: Number of actors that have been replaced.

    Raises:
        ConfigError: The cluster is too small, or has other versions.
        EnvironmentSetupError: An actor cannot create the environment.
    """

    def __init__(self, ray: Any, config: Config) -> None:
        self.ray = ray
        self._config = config
        self.restarts = 0
        self.parts = _parts(config.envs, self._actor_count())
        self._players: dict[int, Any] = {}
        self._starts: dict[int, _Start] = {}
        self._warned: set[int] = set()  # overdue actors with a warning in the log
        try:
            for actor in range(len(self.parts)):
                self._start(actor)
            self._await_all()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Kills the actors."""
        for player in self._players.values():
            with contextlib.suppress(Exception):  # of any kind: the actor may be dead
                self.ray.kill(player)

    def start_reference(self, actor: int) -> Any:
        """Returns Ray's reference to the start of an actor; None after :meth:`has_started` has returned True."""
        return self._starts[actor].reference if actor in self._starts else None

    def has_started(self, actor: int) -> bool:
        """Returns whether an actor is ready to play.

        Raises:
            ConfigError: The actor has other versions than this process.
            EnvironmentSetupError: The actor cannot create the environment.
            RayError: The actor died.
        """
        if actor not in self._starts:
            return True
        reference = self._starts[actor].reference
        if not self.ray.wait([reference], timeout=0)[0]:
            return False
        self._check(reference)
        del self._starts[actor]
        self._warned.discard(actor)
        return True

    def actor_for(self, part: int, loads: dict[int, int]) -> int | None:
        """Returns the actor to play a part: its own, or the least loaded other one if its own is overdue.

        Args:
            part: Index of the part, which is also the index of its own actor.
            loads: Number of parts that each actor has yet to play.

        Returns:
            The index of the actor; None while the part's own actor is starting.

        Raises:
            ConfigError: The actor has other versions than this process.
            EnvironmentSetupError: The actor cannot create the environment.
            EnvironmentStepError: No actor is left, and none has started in time.
            RayError: The actor died.
        """
        if self.has_started(part):
            return part
        if not self._is_overdue(part):
            return None
        if living := self._players.keys() - self._starts.keys():
            if part not in self._warned:
                self._warned.add(part)
                logger.warning(
                    "a Ray actor has not started within %g s: %s; other actors play its episodes until it does",
                    _START_SECONDS,
                    self._free_cpus(),
                )
            return min(living, key=lambda actor: (loads.get(actor, 0), actor))
        if all(map(self._is_overdue, self._starts)):
            raise EnvironmentStepError(
                f"no Ray actor is left, and none has started within {_START_SECONDS:g} s: {self._free_cpus()}"
            )
        return None

    def play(self, actor: int, part: int, *arguments: Any) -> Any:
        """Starts to play a part on an actor; see :meth:`Player.play`. Returns Ray's reference to the result."""
        return self._players[actor].play.remote(*self.parts[part], *arguments)

    def replace(self, actor: int) -> None:
        """Kills an actor, and starts another in its place."""
        with contextlib.suppress(Exception):  # of any kind: the actor may be dead
            self.ray.kill(self._players[actor])
        self._start(actor)

    def get(self, reference: Any) -> Any:
        """Returns the value of a reference. Raises what the actor raised.

        Raises:
            RayError: The actor or its result is lost.
        """
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            raise cause from error

    def _actor_count(self) -> int:
        total, each = self.ray.cluster_resources().get("CPU", 0.0), self._config.ray_actor_cpus
        fit = _capacity(total, each) if each else self._config.envs
        wanted = self._config.ray_actors
        if fit < (wanted or 1):
            raise ConfigError(
                f"{wanted or 1} Ray actors of {each:g} CPUs do not fit into the cluster, which has {total:g}: "
                "lower ray_actors or ray_actor_cpus"
            )
        return min(wanted or fit, self._config.envs)

    def _start(self, actor: int) -> None:
        config = self._config
        remote = self.ray.remote(num_cpus=config.ray_actor_cpus, max_restarts=0)(Player)
        player = self._players[actor] = remote.remote(config.to_json(), config.envs, config.endless_steps)
        self._starts[actor] = _Start(player.start.remote(*self.parts[actor]), time.monotonic() + _START_SECONDS)

    def _await_all(self) -> None:
        references = [start.reference for start in self._starts.values()]
        _, late = self.ray.wait(references, num_returns=len(references), timeout=_START_SECONDS)
        if late:
            raise ConfigError(
                f"{len(late)} of {len(references)} Ray actors have not started within {_START_SECONDS:g} s: "
                f"{self._free_cpus()}; lower ray_actors or ray_actor_cpus"
            )
        for actor in list(self._starts):
            try:
                self.has_started(actor)
            except self.ray.exceptions.RayError as error:
                raise ConfigError(f"a Ray actor did not start: {error}") from error

    def _check(self, reference: Any) -> None:
        try:
            found = self.get(reference)
        except (EnvironmentSetupError, EnvironmentStepError) as error:
            raise EnvironmentSetupError(
                f"a Ray actor cannot create {self._config.env_id}, although this process can: {error}; install it on "
                "every machine of the cluster, and use an id of the form module:id"
            ) from error
        if found != versions():
            raise ConfigError(f"a Ray actor has {_format(found)}, but this process has {_format(versions())}")

    def _is_overdue(self, actor: int) -> bool:
        return time.monotonic() > self._starts[actor].deadline

    def _free_cpus(self) -> str:
        free = self.ray.available_resources().get("CPU", 0.0)
        return f"the cluster has {free:g} CPUs free, and each actor takes {self._config.ray_actor_cpus:g}"


def _parts(slots: int, actors: int) -> list[tuple[int, int]]:
    """Returns the first slot and the number of slots of each actor."""
    counts = [slots // actors + (i < slots % actors) for i in range(actors)]
    return [(sum(counts[:i]), count) for i, count in enumerate(counts)]


def _capacity(cpus: float, each: float) -> int:
    """Returns how many actors fit. Rounds first, because 7 / 0.07 is less than 100 in floats."""
    return int(round(cpus / each, 6))


def _format(names: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in names.items())
