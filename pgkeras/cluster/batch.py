"""One batch of episodes: assigns its parts to actors, and repeats parts after a failure."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Any, NamedTuple

from pgkeras.cluster.actors import Actors
from pgkeras.cluster.player import Part
from pgkeras.environments.collect import Watch
from pgkeras.environments.trajectory import Trajectory
from pgkeras.errors import EnvironmentStepError

__all__ = ["Batch"]

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.1  # between two checks of limits and signals
_SLOW_FACTOR = 3.0  # an actor that takes this many times as long as the slowest other is replaced
_PATIENCE_SECONDS = 5.0  # added to that limit
_MAX_FAILURES = 3  # per part


class _Task(NamedTuple):
    """A part, and the actor that plays it."""

    part: int
    actor: int


class Batch:
    """Plays the parts of a batch on actors. If an actor fails, its successor or another actor plays its parts again.

    Args:
        actors: The actors. They are idle afterwards, even after an error.
        shares: Number of episodes of each part.
        arguments: Arguments of :meth:`Player.play` after the slots.
    """

    def __init__(self, actors: Actors, shares: dict[int, int], arguments: tuple[Any, ...]) -> None:
        self._actors, self._shares, self._arguments = actors, shares, arguments
        self._waiting = [part for part, share in shares.items() if share]  # for an actor
        self._pending: dict[Any, _Task] = {}  # by Ray's reference; an actor plays its parts in this order
        self._results: dict[int, Part] = {}
        self._failures = dict.fromkeys(shares, 0)
        self._patience = dict.fromkeys(shares, 1.0)
        self._since: dict[int, float] = {}  # when each actor started its current part

    def play(self, watch: Watch | None) -> Trajectory:
        """Plays all parts.

        Args:
            watch: Callback for the progress. An exception that it raises ends the batch.

        Raises:
            ConfigError: The successor of an actor has other versions than this process.
            EnvironmentSetupError: The successor of an actor cannot create the environment.
            EnvironmentStepError: The environment failed, actors failed repeatedly, or none is left.
        """
        try:
            while self._waiting or self._pending:
                self._dispatch()
                self._receive()
                self._replace_late()
                if watch is not None:
                    steps = sum(result.trajectory.steps for result in self._results.values())
                    watch(steps, sum(self._shares[part] for part in self._results))
        except BaseException:
            for actor in {task.actor for task in self._pending.values()}:
                self._actors.replace(actor)  # stops its tasks, whose results are not needed
            raise
        return Trajectory.join([self._results[part].trajectory for part in sorted(self._results)])

    def _dispatch(self) -> None:
        for part in self._waiting.copy():
            loads = Counter(task.actor for task in self._pending.values())
            try:
                actor = self._actors.actor_for(part, loads)
            except self._actors.ray.exceptions.RayError as error:
                self._failed(_Task(part, part), error)
                continue
            if actor is not None:
                self._waiting.remove(part)
                self._pending[self._actors.play(actor, part, *self._arguments)] = _Task(part, actor)
                if not loads[actor]:
                    self._since[actor] = time.monotonic()

    def _receive(self) -> None:
        starting = [self._actors.start_reference(part) for part in self._waiting]
        ready, _ = self._actors.ray.wait([*self._pending, *starting], num_returns=1, timeout=_POLL_SECONDS)
        for reference in self._pending.keys() & ready:
            task = self._pending.pop(reference)
            try:
                self._results[task.part] = self._actors.get(reference)
                self._since[task.actor] = time.monotonic()
            except self._actors.ray.exceptions.RayError as error:
                self._waiting.append(task.part)
                self._failed(task, error)

    def _failed(self, task: _Task, error: Exception) -> None:
        self._failures[task.part] += 1
        if (failures := self._failures[task.part]) > _MAX_FAILURES:
            raise EnvironmentStepError(
                f"a Ray actor died {failures} times in one batch of episodes; the last error: {error}"
            ) from error
        logger.warning("a Ray actor has died; another actor plays its episodes again")
        self._replace(task.actor)

    def _replace_late(self) -> None:
        actors = {task.actor for task in self._pending.values()}
        if len(actors) != 1 or self._waiting or not self._results:
            return
        (actor,) = actors
        part = next(iter(self._pending.values())).part
        slowest = max(result.seconds for result in self._results.values())
        if time.monotonic() - self._since[actor] > self._patience[part] * (_PATIENCE_SECONDS + _SLOW_FACTOR * slowest):
            self._patience[part] *= 2  # otherwise, episodes that are really that long would never finish
            logger.warning("a Ray actor takes far longer than all others; another actor plays its episodes again")
            self._replace(actor)

    def _replace(self, actor: int) -> None:
        """Replaces an actor. Its parts wait for an actor again."""
        self._actors.replace(actor)
        self._actors.restarts += 1
        for reference, task in list(self._pending.items()):
            if task.actor == actor:
                del self._pending[reference]
                self._waiting.append(task.part)
