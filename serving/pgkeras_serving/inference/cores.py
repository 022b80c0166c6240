"""Shares the available cores among the engines of all policies."""

from __future__ import annotations

import weakref

from pgkeras.cores import available
from pgkeras_serving.telemetry.metrics import Meter

__all__ = ["Cores"]

# More than a request takes of the event loop, the transport and, on the same machine, its client. While these have more
# to do than an engine, and no core is idle, a second engine would only be in their way.
_LOOP_SECONDS = 1e-3


class Cores:
    """The cores that the engines of all policies share.

    Args:
        number: How many; None: as many as are :func:`pgkeras.cores.available`.
    """

    def __init__(self, number: int | None = None) -> None:
        self.number = number or available()
        self._busy = 0
        self._meters: list[weakref.ref[Meter]] = []

    def share(self, meter: Meter) -> None:
        """Registers a policy by its meter, which knows its load."""
        self._meters = [known for known in self._meters if known() is not None] + [weakref.ref(meter)]

    def acquire(self) -> None:
        """Marks one core as busy: a worker starts computing."""
        self._busy += 1

    def release(self) -> None:
        """Marks one core as idle: a worker has finished."""
        self._busy -= 1

    def available_for(self, meter: Meter, request_seconds: float) -> int:
        """The number of additional engines of a policy that may compute now.

        One core is the event loop's. It is taken, too, for requests with which the loop has little to do, but not while
        another policy is asked: its requests would wait for a core for milliseconds.

        Args:
            meter: The policy's.
            request_seconds: What an engine takes for a request.
        """
        others = (known() for known in self._meters)
        is_alone = not any(other is not None and other is not meter and other.is_asked() for other in others)
        for_loop = 0 if is_alone and request_seconds >= _LOOP_SECONDS else 1
        return max(0, self.number - for_loop - self._busy)
