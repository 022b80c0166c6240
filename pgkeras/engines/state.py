"""The state of a policy with memory: a row for each environment, of zeros where an episode starts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["start_over"]


def start_over(state: NDArray[Any], starts: NDArray[np.bool_]) -> NDArray[Any]:
    """The state with zeros where an episode starts.

    Args:
        state: ``[B, size]``, of any type.
        starts: ``[B]``.
    """
    return np.where(starts[:, np.newaxis], state.dtype.type(0), state) if starts.any() else state
