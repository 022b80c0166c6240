"""The state of a policy with memory: a row for each environment, of zeros where an episode starts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["or_zeros", "start_over"]


def or_zeros(state: NDArray[Any] | None, rows: int, size: int) -> NDArray[Any]:
    """The state; float32 zeros ``[rows, size]`` where there is none, since all episodes begin."""
    return np.zeros((rows, size), np.float32) if state is None else state


def start_over(state: NDArray[Any], starts: NDArray[np.bool_]) -> NDArray[Any]:
    """The state with zeros where an episode starts.

    Args:
        state: ``[B, size]``, of any type.
        starts: ``[B]``.
    """
    return np.where(starts[:, np.newaxis], state.dtype.type(0), state) if starts.any() else state
