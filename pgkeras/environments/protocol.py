"""The interface of environments that the collector steps side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray

from pgkeras.environments.trajectory import Tape

__all__ = ["DelegatingEnvironments", "Environments", "Rows", "name_of"]


class Rows(Protocol):
    """Destination of observations: a tape, or a recorder."""

    def put(self, t: int, slot: int | slice, observation: Any, info: Mapping[str, Any]) -> None:
        """Stores the observation of one slot, or of all slots, at step t."""


class Environments(Protocol):
    """Copies of one environment. Each copy has one slot."""

    @property
    def slots(self) -> int:
        """Number of copies."""

    @property
    def observation_space(self) -> gymnasium.Space[Any]:
        """The observation space of one copy."""

    @property
    def action_space(self) -> gymnasium.Space[Any]:
        """The action space of one copy."""

    @property
    def spec(self) -> gymnasium.envs.registration.EnvSpec | None:
        """The registered specification, or None for an unregistered environment."""

    @property
    def gap(self) -> int:
        """Number of steps between the last step of an episode and the first of the next: 1 if a reset takes a step."""

    @property
    def lockstep(self) -> bool:
        """Whether every step advances all slots, including those that have no episodes left to play."""

    def check(self) -> bool:
        """Checks the return values of one environment, if necessary. May leave it in the middle of an episode.

        Returns:
            Whether a step returned an action mask; a reset may omit the mask.

        Raises:
            EnvironmentSetupError: A call fails, or does not return what gymnasium's interface requires.
        """

    def reset(self, seeds: Sequence[int], tape: Rows) -> None:
        """Starts a new episode in every slot from its seed, and writes the observations to row 0."""

    def step(self, t: int, actions: Any, remaining: NDArray[np.int64], tape: Tape) -> bool:
        """Steps the slots that have episodes left to play. May step the others, whose results are ignored.

        Writes rewards and episode ends to row ``t`` of the tape, and the next observations to row ``t + 1``. After the
        end of an episode, the next observation is the first of the slot's next episode (after the gap), if there is
        one.

        Args:
            t: Index of the step, from 0.
            actions: ``[slots, ...]``; for a Dict or Tuple action space, a dict or tuple of such arrays.
            remaining: ``[slots]``, the number of episodes left to play, including the current one.
            tape: Receives the results.

        Returns:
            Whether an episode ended in any slot.
        """

    def close(self) -> None:
        """Releases all resources."""


class DelegatingEnvironments:
    """Base class that forwards all calls to other environments. Subclasses override some of them.

    Args:
        environments: The wrapped environments. A subclass may replace them with equivalent ones.
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
    """Returns the name of the environments for error messages: their gymnasium id if they have one."""
    return environments.spec.id if environments.spec is not None else "the environment"
