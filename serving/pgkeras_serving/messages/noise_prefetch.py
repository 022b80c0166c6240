"""Prefetches noise in blocks, because drawing many rows costs about as much as drawing one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pgkeras.engines import noise
from pgkeras.spaces.spec import PolicySpec

__all__ = ["NoisePrefetch"]


class NoisePrefetch:
    """The rows of one generator, in order.

    Args:
        spec: The policy's that acts by it.
        seed: Of the generator; None for one of its own.
        ahead: How many rows are drawn at once, at least.
    """

    def __init__(self, spec: PolicySpec, seed: int | None, ahead: int) -> None:
        self._spec = spec
        self._generator = noise.seeded(seed)
        self._ahead = ahead
        self._rows = noise.draw(self._generator, spec, 0)
        self._used = 0

    def peek(self, rows: int) -> NDArray[np.float32]:
        """The next rows, ``[rows, noise_size]``, which stay the next."""
        missing = self._used + rows - len(self._rows)
        if missing > 0:
            more = noise.draw(self._generator, self._spec, max(missing, self._ahead))
            self._rows = np.concatenate([self._rows[self._used :], more])
            self._used = 0
        return self._rows[self._used : self._used + rows]

    def skip(self, rows: int) -> None:
        """Advances to the next rows."""
        self._used += rows

    def take(self, rows: int) -> NDArray[np.float32]:
        """The next rows, and goes on to those after them."""
        taken = self.peek(rows)
        self._used += rows
        return taken
