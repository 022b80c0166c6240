"""The Ray actors of a run: how they are started, checked and replaced."""

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
    """An actor's start that is under way."""

    greeting: Any  # Ray's reference to what its hello gives
    deadline: float


class Actors:
    """Ray actors, each with slots of its own. One that has not started has them played by others.

    Args:
        ray: The module, connected to a cluster.
        config: The run's settings.

    Attributes:
        parts: For each actor the first of its slots, and how many it has.
        restarts: How many actors have been started again.

    Raises:
        ConfigError: The cluster is too small, or not of these versions.
        EnvironmentSetupError: The environment cannot be made there.
    """

    def __init__(self, ray: Any, config: Config) -> None:
        self.ray = ray
        self._config = config
        self.restarts = 0
        self.parts = _parts(config.envs, self._number())
        self._players: dict[int, Any] = {}
        self._starts: dict[int, _Start] = {}
        self._told: set[int] = set()  # late ones that were warned about
        try:
            for actor in range(len(self.parts)):
                self._start(actor)
            self._await_all()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends the actors."""
        for player in self._players.values():
            with contextlib.suppress(Exception):  # of any kind: it may be gone
                self.ray.kill(player)

    def greeting(self, actor: int) -> Any:
        """Ray's reference that is there when an actor has started; None once :meth:`has_started` has said so."""
        return self._starts[actor].greeting if actor in self._starts else None

    def has_started(self, actor: int) -> bool:
        """Whether an actor is ready to play.

        Raises:
            ConfigError: It has other versions than this process.
            EnvironmentSetupError: It cannot make the environment.
            RayError: It died.
        """
        if actor not in self._starts:
            return True
        greeting = self._starts[actor].greeting
        if not self.ray.wait([greeting], timeout=0)[0]:
            return False
        self._check(greeting)
        del self._starts[actor]
        self._told.discard(actor)
        return True

    def host(self, part: int, loads: dict[int, int]) -> int | None:
        """The actor to play an actor's slots: itself, or while the cluster has had no room for it, another.

        Args:
            part: The actor whose slots they are.
            loads: How many parts each actor has yet to play.

        Returns:
            None while it is still starting.

        Raises:
            ConfigError: It has other versions than this process.
            EnvironmentSetupError: It cannot make the environment.
            EnvironmentStepError: No actor is left, and none has started in time.
            RayError: It died.
        """
        if self.has_started(part):
            return part
        if not self._is_overdue(part):
            return None
        if living := self._players.keys() - self._starts.keys():
            if part not in self._told:
                self._told.add(part)
                logger.warning(
                    "a Ray actor has not started within %g s: %s; other actors play its episodes until it does",
                    _START_SECONDS,
                    self._room(),
                )
            return min(living, key=lambda actor: (loads.get(actor, 0), actor))
        if all(map(self._is_overdue, self._starts)):
            raise EnvironmentStepError(
                f"no Ray actor is left, and none has started within {_START_SECONDS:g} s: {self._room()}"
            )
        return None

    def play(self, actor: int, part: int, *order: Any) -> Any:
        """Asks an actor to play some slots; see :meth:`Player.play`. Returns Ray's reference to what comes of it."""
        return self._players[actor].play.remote(*self.parts[part], *order)

    def replace(self, actor: int) -> None:
        """Ends an actor, whatever it is at, and starts another in its place."""
        with contextlib.suppress(Exception):  # of any kind: it may be gone
            self.ray.kill(self._players[actor])
        self._start(actor)

    def get(self, reference: Any) -> Any:
        """The value of a reference. What the actor raised is raised here.

        Raises:
            RayError: The actor or its answer is lost.
        """
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            raise cause from error

    def _number(self) -> int:
        there, each = self.ray.cluster_resources().get("CPU", 0.0), self._config.ray_actor_cpus
        fit = _fitting(there, each) if each else self._config.envs
        wanted = self._config.ray_actors
        if fit < (wanted or 1):
            raise ConfigError(
                f"{wanted or 1} Ray actors of {each:g} CPUs do not fit into the cluster, which has {there:g}: "
                "lower ray_actors or ray_actor_cpus"
            )
        return min(wanted or fit, self._config.envs)

    def _start(self, actor: int) -> None:
        config = self._config
        remote = self.ray.remote(num_cpus=config.ray_actor_cpus, max_restarts=0)(Player)
        player = self._players[actor] = remote.remote(config.to_json(), config.envs, config.endless_steps)
        self._starts[actor] = _Start(player.hello.remote(*self.parts[actor]), time.monotonic() + _START_SECONDS)

    def _await_all(self) -> None:
        greetings = [start.greeting for start in self._starts.values()]
        _, late = self.ray.wait(greetings, num_returns=len(greetings), timeout=_START_SECONDS)
        if late:
            raise ConfigError(
                f"{len(late)} of {len(greetings)} Ray actors have not started within {_START_SECONDS:g} s: "
                f"{self._room()}; lower ray_actors or ray_actor_cpus"
            )
        for actor in list(self._starts):
            try:
                self.has_started(actor)
            except self.ray.exceptions.RayError as error:
                raise ConfigError(f"a Ray actor does not start: {error}") from error

    def _check(self, greeting: Any) -> None:
        try:
            there = self.get(greeting)
        except (EnvironmentSetupError, EnvironmentStepError) as error:
            raise EnvironmentSetupError(
                f"a Ray actor cannot make {self._config.env_id}, though this process can: {error}; install it on "
                "every machine of the cluster, and name it module:id"
            ) from error
        if there != versions():
            raise ConfigError(f"a Ray actor has {_listed(there)}, but this process {_listed(versions())}")

    def _is_overdue(self, actor: int) -> bool:
        return time.monotonic() > self._starts[actor].deadline

    def _room(self) -> str:
        free = self.ray.available_resources().get("CPU", 0.0)
        return f"the cluster has {free:g} CPUs free, and each actor takes {self._config.ray_actor_cpus:g}"


def _parts(slots: int, actors: int) -> list[tuple[int, int]]:
    """For each actor the first of its slots, and how many it has."""
    counts = [slots // actors + (i < slots % actors) for i in range(actors)]
    return [(sum(counts[:i]), count) for i, count in enumerate(counts)]


def _fitting(cpus: float, each: float) -> int:
    """How many actors of so many CPUs each fit; 7 CPUs hold a hundred of 0.07, though 7 / 0.07 is less in floats."""
    return int(round(cpus / each, 6))


def _listed(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())
