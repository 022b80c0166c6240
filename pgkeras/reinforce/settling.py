"""Smaller KL targets at the end of training, when the advantages have become small."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Settling"]

_RATE = 0.1  # of the running mean; smooths the maximum, which a single batch should not set
_THRESHOLD = 0.5  # share of the maximum; the usual differences between batches stay above it
_STATE = "settling"


class Settling:
    """The factor by which the KL target decreases when the advantages become small.

    With rescaled advantages and a fixed KL target, a step is as long for noise as for a signal. When nearly all
    episodes have the same return, the remaining differences are mostly noise, and steps of the same length would make
    the policy worse again. Without rescaling, the gradient would decrease in proportion to the advantages, and the KL
    divergence of a step with their square. This class restores that behavior: if the root mean square (RMS) of the
    advantages is below half of its largest running mean so far, the KL target decreases with the square of the RMS.
    """

    def __init__(self) -> None:
        self._mean = self._largest = 0.0

    def update(self, rms: float) -> float:
        """Adds a batch; returns the factor of the KL target for its gradient step, from 0 to 1.

        Args:
            rms: Root mean square of the batch's advantages, before they are rescaled.
        """
        if not rms:  # there is no gradient
            return 1.0
        self._mean += (_RATE if self._largest else 1.0) * (rms - self._mean)
        self._largest = max(self._largest, self._mean)
        return min(1.0, rms / (_THRESHOLD * self._largest)) ** 2

    def state(self) -> dict[str, NDArray[Any]]:
        """Returns the state, by name."""
        return {_STATE: np.array([self._mean, self._largest])}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restores a :meth:`state`."""
        self._mean, self._largest = state[_STATE].tolist()
