"""Makes environments again when one of them has failed, died or hung."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from pgkeras.environments.protocol import Environments, Rows
from pgkeras.environments.trajectory import Tape
from pgkeras.errors import EnvironmentStepError

__all__ = ["RestartingEnvironments"]

logger = logging.getLogger(__name__)


class RestartingEnvironments:
    """Environments that can be made anew. Whoever plays them starts again from its seeds then.

    Args:
        make: Makes them.
        restarts: How often they may be made again.

    Attributes:
        restarts: How often they have been.

    Raises:
        EnvironmentSetupError: They cannot be made.
    """

    def __init__(self, make: Callable[[], Environments], restarts: int) -> None:
        self._make = make
        self._most = restarts
        self.restarts = 0
        self._environments = first = make()
        self.slots, self.gap, self.lockstep, self.spec = first.slots, first.gap, first.lockstep, first.spec
        self.observation_space: gymnasium.Space[Any] = first.observation_space
        self.action_space: gymnasium.Space[Any] = first.action_space

    def restart(self, error: EnvironmentStepError) -> bool:
        """Makes the environments again after an error. Returns False if they have been often enough.

        Raises:
            EnvironmentSetupError: They cannot be made.
        """
        if self.restarts == self._most:
            return False
        self.restarts += 1
        logger.warning(
            "%s\nMaking the environments again (%d of env_restarts=%d); the episodes under way are played again.",
            error,
            self.restarts,
            self._most,
        )
        with contextlib.suppress(Exception):  # of any kind: it is what has failed already
            self._environments.close()
        self._environments = self._make()
        return True

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
