"""Micro-batches: divides a batch whose gradient does not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["divided", "padded"]

Arrays = Sequence[NDArray[Any]]


def divided(arrays: Arrays, rows: int, has_episodes: bool) -> Iterator[Arrays]:
    """The arrays of a batch, cut into parts of so many rows at most.

    Args:
        arrays: ``[N, ...]``, a row for each step; or ``[T, B, ...]``, whole episodes side by side.
        rows: How many; of a part with a single episode there may be more, since those are not cut.
        has_episodes: Whether there are episodes.
    """
    if has_episodes:
        steps, episodes = arrays[0].shape[:2]
        size = max(1, rows // steps)
        for i in range(0, episodes, size):
            yield [array[:, i : i + size] for array in arrays]
    else:
        for i in range(0, len(arrays[0]), rows):
            yield [array[i : i + rows] for array in arrays]


def padded(arrays: Arrays) -> Arrays:
    """The arrays with a power of two of rows, or steps, the last of them zero: XLA compiles for every number anew."""
    size = 1 << (len(arrays[0]) - 1).bit_length()
    return [np.concatenate([a, np.zeros((size - len(a), *a.shape[1:]), a.dtype)]) for a in arrays]
