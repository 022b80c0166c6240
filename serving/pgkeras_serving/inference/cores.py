"""Shares the available cores among the engines of all policies."""

from __future__ import annotations

import weakref

from pgkeras.cores import available
from pgkeras_serving.telemetry.metrics import Meter

__all__ = ["Cores"]

# Upper bound of the time per request of the event loop, the transport and a client on the same machine. If they need
# more time than the engine and no core is idle, a second engine would only slow them down.
_LOOP_SECONDS = 1e-3


class Cores:
    """The cores that the engines of all policies share.

    Args:
        number: Number of cores; None means :func:`pgkeras.cores.available`.
    """

    def __init__(self, number: int | None = None) -> None:
        self.number = number or available()
        self._busy = 0
        self._meters: list[weakref.ref[Meter]] = []

    def share(self, meter: Meter) -> None:
        """Registers a policy by its meter, which measures its load."""
        self._meters = [known for known in self._meters if known() is not None] + [weakref.ref(meter)]

    def acquire(self) -> None:
        """Marks one core as busy: a worker starts computing."""
        self._busy += 1

    def release(self) -> None:
        """Marks one core as idle: a worker has finished."""
        self._busy -= 1

    def available_for(self, meter: Meter, request_seconds: float) -> int:
        """Returns the number of additional engines of a policy that may compute now.

        One core is reserved for the event loop. An engine may use it as well for long requests, because these give the
        loop little work, but only if no other policy receives requests: those would wait milliseconds for a core.

        Args:
            meter: The policy's meter.
            request_seconds: Computing time per request.
        """
        others = (known() for known in self._meters)
        is_alone = not any(other is not None and other is not meter and other.is_asked() for other in others)
        for_loop = 0 if is_alone and request_seconds >= _LOOP_SECONDS else 1
        return max(0, self.number - for_loop - self._busy)
