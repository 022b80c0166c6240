"""One batch of episodes: which actor plays which part, and who plays it again after a failure."""

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

_LOOK_SECONDS = 0.1  # between two looks at limits and signals
_SLOW = 3.0  # times as long as all others: it is played again elsewhere
_PATIENCE_SECONDS = 5.0  # but not before
_MOST_FAILURES = 3  # of one part


class _Order(NamedTuple):
    """A part, and the actor that has been asked to play it."""

    part: int
    actor: int


class Batch:
    """Has actors play their parts; what one that fails was to play is played by its successor, or by another.

    Args:
        actors: They are left idle, also after an error.
        shares: How many episodes each part is of.
        order: What :meth:`Player.play` takes beside the slots.
    """

    def __init__(self, actors: Actors, shares: dict[int, int], order: tuple[Any, ...]) -> None:
        self._actors, self._shares, self._order = actors, shares, order
        self._waiting = [part for part, share in shares.items() if share]  # for an actor
        self._pending: dict[Any, _Order] = {}  # by Ray's references; an actor plays its parts in this order
        self._found: dict[int, Part] = {}
        self._failures = dict.fromkeys(shares, 0)
        self._patience = dict.fromkeys(shares, 1.0)
        self._since: dict[int, float] = {}  # when each actor began with what it plays now

    def play(self, watch: Watch | None) -> Trajectory:
        """Plays all parts.

        Args:
            watch: Is told of what is done. What it raises ends the playing.

        Raises:
            ConfigError: The successor of an actor has other versions than this process.
            EnvironmentSetupError: It cannot make the environment.
            EnvironmentStepError: The environment failed, an actor did again and again, or none is left.
        """
        try:
            while self._waiting or self._pending:
                self._ask()
                self._take()
                self._replace_late()
                if watch is not None:
                    steps = sum(found.trajectory.steps for found in self._found.values())
                    watch(steps, sum(self._shares[part] for part in self._found))
        except BaseException:
            for actor in {order.actor for order in self._pending.values()}:
                self._actors.replace(actor)  # an actor plays one order after the other, and this one's rest is no use
            raise
        return Trajectory.join([self._found[part].trajectory for part in sorted(self._found)])

    def _ask(self) -> None:
        for part in self._waiting.copy():
            loads = Counter(order.actor for order in self._pending.values())
            try:
                actor = self._actors.host(part, loads)
            except self._actors.ray.exceptions.RayError as error:
                self._failed(_Order(part, part), error)
                continue
            if actor is not None:
                self._waiting.remove(part)
                self._pending[self._actors.play(actor, part, *self._order)] = _Order(part, actor)
                if not loads[actor]:
                    self._since[actor] = time.monotonic()

    def _take(self) -> None:
        starting = [self._actors.greeting(part) for part in self._waiting]
        ready, _ = self._actors.ray.wait([*self._pending, *starting], num_returns=1, timeout=_LOOK_SECONDS)
        for reference in self._pending.keys() & ready:
            order = self._pending.pop(reference)
            try:
                self._found[order.part] = self._actors.get(reference)
                self._since[order.actor] = time.monotonic()
            except self._actors.ray.exceptions.RayError as error:
                self._waiting.append(order.part)
                self._failed(order, error)

    def _failed(self, order: _Order, error: Exception) -> None:
        self._failures[order.part] += 1
        if (failures := self._failures[order.part]) > _MOST_FAILURES:
            often = f"a Ray actor died {failures} times in one batch of episodes"
            raise EnvironmentStepError(f"{often}, the last time so: {error}") from error
        logger.warning("a Ray actor has died; its episodes are played again by another")
        self._replace(order.actor)

    def _replace_late(self) -> None:
        actors = {order.actor for order in self._pending.values()}
        if len(actors) != 1 or self._waiting or not self._found:
            return
        (actor,) = actors
        part = next(iter(self._pending.values())).part
        slowest = max(found.seconds for found in self._found.values())
        if time.monotonic() - self._since[actor] > self._patience[part] * (_PATIENCE_SECONDS + _SLOW * slowest):
            self._patience[part] *= 2  # or episodes that do take so long would be begun again without end
            logger.warning("a Ray actor takes far longer than all others; its episodes are played again by another")
            self._replace(actor)

    def _replace(self, actor: int) -> None:
        """Replaces an actor. What it was to play waits for one again."""
        self._actors.replace(actor)
        self._actors.restarts += 1
        for reference, order in list(self._pending.items()):
            if order.actor == actor:
                del self._pending[reference]
                self._waiting.append(order.part)
