"""The interface that the collector expects of environments stepped side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray

from pgkeras.environments.trajectory import Tape

__all__ = ["DelegatingEnvironments", "Environments", "Rows", "name_of"]


class Rows(Protocol):
    """Where observations are written: a tape, or what looks at them."""

    def put(self, t: int, slot: int | slice, observation: Any, info: Mapping[str, Any]) -> None:
        """Stores the observations of one slot, or of all, at step t."""


class Environments(Protocol):
    """Copies of one environment, each in a slot of its own."""

    @property
    def slots(self) -> int:
        """How many there are."""

    @property
    def observation_space(self) -> gymnasium.Space[Any]:
        """The observation space of one copy."""

    @property
    def action_space(self) -> gymnasium.Space[Any]:
        """The action space of one copy."""

    @property
    def spec(self) -> gymnasium.envs.registration.EnvSpec | None:
        """The registered specification, or None for an environment that was never registered."""

    @property
    def gap(self) -> int:
        """How many steps of a slot lie between an episode's last and the next one's first: 1 if a reset takes one."""

    @property
    def lockstep(self) -> bool:
        """Whether slots are stepped all together, whether they have anything left to play or not."""

    def check(self) -> bool:
        """Checks once what an environment returns, where that is not known. May leave it in the middle of an episode.

        Returns:
            Whether a step showed an action mask, as one may where a reset does not.

        Raises:
            EnvironmentSetupError: It fails, or returns something else than gymnasium's environments do.
        """

    def reset(self, seeds: Sequence[int], tape: Rows) -> None:
        """Starts a new episode in every slot from that slot's seed, and writes the observations to row 0."""

    def step(self, t: int, actions: Any, remaining: NDArray[np.int64], tape: Tape) -> bool:
        """Steps the slots that have episodes left to play; the others may be stepped too, which nobody reads.

        What came of it is written to row ``t`` of the tape, and what to act on next to row ``t + 1`` of its
        observations: after an episode's end, the first observation of the next (once the gap has passed), if the slot
        is to play another.

        Args:
            t: Number of the step, from 0.
            actions: ``[slots, ...]``; a dict or tuple of such arrays where the action space is a Dict or Tuple.
            remaining: ``[slots]``, how many episodes each slot has left to play, with the one that it is in.
            tape: What it is written to.

        Returns:
            Whether an episode ended in any slot.
        """

    def close(self) -> None:
        """Frees what the environments hold."""


class DelegatingEnvironments:
    """Environments that leave to others what a subclass does not do itself.

    Args:
        environments: The others. A subclass may replace them with some that look the same.
    """

    def __init__(self, environments: Environments) -> None:
        self._environments = environments
        self.slots, self.spec = environments.slots, environments.spec
        self.gap, self.lockstep = environments.gap, environments.lockstep
        self.observation_space, self.action_space = environments.observation_space, environments.action_space

    def check(self) -> bool:
        """See :meth:`Environments.check`."""
        return self._environments.check()

    def reset(self, seeds: Sequence[int], tape: Rows) -> None:
        """See :meth:`Environments.reset`."""
        self._environments.reset(seeds, tape)

    def step(self, t: int, actions: Any, remaining: NDArray[np.int64], tape: Tape) -> bool:
        """See :meth:`Environments.step`."""
        return self._environments.step(t, actions, remaining, tape)

    def close(self) -> None:
        """See :meth:`Environments.close`."""
        self._environments.close()


def name_of(environments: Environments) -> str:
    """The environments' name in error messages: their gymnasium id if they have one."""
    return environments.spec.id if environments.spec is not None else "the environment"
