"""The state of a policy with memory: one row per environment, zeros at the start of an episode."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["or_zeros", "start_over"]


def or_zeros(state: NDArray[Any] | None, rows: int, size: int) -> NDArray[Any]:
    """Returns the state, or float32 zeros ``[rows, size]`` if it is None, for the start of all episodes."""
    return np.zeros((rows, size), np.float32) if state is None else state


def start_over(state: NDArray[Any], starts: NDArray[np.bool_]) -> NDArray[Any]:
    """Returns the state with zeros in the rows where an episode starts.

    Args:
        state: ``[B, size]``, of any dtype.
        starts: ``[B]``, true where an episode starts.
    """
    return np.where(starts[:, np.newaxis], state.dtype.type(0), state) if starts.any() else state
