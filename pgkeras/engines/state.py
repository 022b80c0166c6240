"""The state of a policy with memory: one row of float32 numbers per environment, zeros where an episode starts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["start_over"]


def start_over(state: NDArray[np.float32] | None, starts: NDArray[np.bool_], size: int) -> NDArray[np.float32]:
    """The state with zeros where an episode starts.

    Args:
        state: ``[B, size]``; None for nothing yet.
        starts: ``[B]``.
        size: Length of a row.
    """
    if state is None or len(state) != len(starts):
        return np.zeros((len(starts), size), np.float32)
    return np.where(starts[:, np.newaxis], np.float32(0), state)
