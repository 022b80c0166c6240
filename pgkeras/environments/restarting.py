"""Makes environments again when one of them has failed, died or hung."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

from pgkeras.environments.protocol import DelegatingEnvironments, Environments
from pgkeras.errors import EnvironmentStepError

__all__ = ["RestartingEnvironments"]

logger = logging.getLogger(__name__)


class RestartingEnvironments(DelegatingEnvironments):
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
        super().__init__(make())
        self._make = make
        self._most = restarts
        self.restarts = 0

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
