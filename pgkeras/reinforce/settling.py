"""Steps of a fixed divergence that become small where little is left to gain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Settling"]

_RATE = 0.1  # of the running mean, so that a single batch does not set the largest
_SMALL = 0.5  # share of the largest; the ups and downs of batches stay above it
_STATE = "settling"


class Settling:
    """Steps become shorter where advantages are much smaller than they were.

    A step of a fixed divergence is as long for noise as for a signal, and rescaled advantages do not show which of the
    two they are. Once nearly all episodes return alike, their remaining differences are mostly noise, and steps as long
    as before lead away from what was learnt. Without rescaling, the gradient would shrink in proportion to the
    advantages, and the divergence of its step with their square. Below half of the largest root mean square so far, the
    divergence that a step aims at shrinks in the same way here.
    """

    def __init__(self) -> None:
        self._mean = self._largest = 0.0

    def note(self, rms: float) -> float:
        """Takes note of a batch; returns the share of the divergence that its step aims at, from 0 to 1.

        Args:
            rms: Root mean square of its advantages, before they are rescaled.
        """
        if not rms:  # there is no gradient
            return 1.0
        self._mean += (_RATE if self._largest else 1.0) * (rms - self._mean)
        self._largest = max(self._largest, self._mean)
        return min(1.0, rms / (_SMALL * self._largest)) ** 2

    def state(self) -> dict[str, NDArray[Any]]:
        """What it remembers, by name."""
        return {_STATE: np.array([self._mean, self._largest])}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restores a :meth:`state`."""
        self._mean, self._largest = state[_STATE].tolist()
