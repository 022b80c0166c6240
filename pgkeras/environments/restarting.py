"""Recreates environments after one of them failed, crashed or hung."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

from pgkeras.environments.protocol import DelegatingEnvironments, Environments
from pgkeras.errors import EnvironmentStepError

__all__ = ["RestartingEnvironments"]

logger = logging.getLogger(__name__)


class RestartingEnvironments(DelegatingEnvironments):
    """Environments that can be recreated. The collector then starts again from its seeds.

    Args:
        make: Creates the environments.
        restarts: Maximum number of restarts.

    Attributes:
        restarts: Number of restarts so far.

    Raises:
        EnvironmentSetupError: The environments cannot be created.
    """

    def __init__(self, make: Callable[[], Environments], restarts: int) -> None:
        super().__init__(make())
        self._make = make
        self._max_restarts = restarts
        self.restarts = 0

    def restart(self, error: EnvironmentStepError) -> bool:
        """Recreates the environments after an error. Returns False if the maximum number of restarts is reached.

        Raises:
            EnvironmentSetupError: The environments cannot be created.
        """
        if self.restarts == self._max_restarts:
            return False
        self.restarts += 1
        logger.warning(
            "%s\nRestarting the environments (%d of env_restarts=%d) and playing the episodes of this epoch again",
            error,
            self.restarts,
            self._max_restarts,
        )
        with contextlib.suppress(Exception):  # failed environments may raise anything on close
            self._environments.close()
        self._environments = self._make()
        return True
