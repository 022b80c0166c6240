"""Writing observations to the rows of a tape."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["put"]


def put(observations: NDArray[Any], t: int, slot: int | slice, observation: Any) -> None:
    """Writes one observation, or all of a step; refuses what would be broadcast to fit, or lose its fractions."""
    row = observations[t, slot, ...]
    array = observation if isinstance(observation, np.ndarray) else np.asarray(observation)
    if array.shape != row.shape:
        raise ValueError(f"expected an observation of shape {row.shape}, got {array.shape}")
    if array.dtype == row.dtype:
        row[...] = array
    else:
        np.copyto(row, array, casting="same_kind")
