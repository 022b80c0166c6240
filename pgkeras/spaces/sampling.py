"""Draws values of integer spaces."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.spaces.arrays import ArraySpace, Box, Discrete, MultiBinary

__all__ = ["draw_integers"]


def draw_integers(space: ArraySpace, rows: int, generator: np.random.Generator) -> NDArray[Any]:
    """Draws uniform values of a space of integers or bits, ``[rows, *space.shape]``.

    Args:
        space: Any array space except a Box of floats.
        rows: Number of values.
        generator: The random generator.
    """
    shape = (rows, *space.shape)
    if isinstance(space, Box):
        least, greatest = _range(space.dtype)
        low, high = (np.clip(bound, least, greatest).astype(space.dtype) for bound in (space.low, space.high))
        return generator.integers(low, high, shape, space.dtype, endpoint=True)
    if isinstance(space, MultiBinary):
        return generator.integers(0, 2, shape).astype(space.dtype)
    count = space.n if isinstance(space, Discrete) else space.nvec
    return generator.integers(space.start, space.start + count, shape).astype(space.dtype)


def _range(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Returns the least and the greatest float64 that the dtype can hold."""
    if dtype.kind == "b":
        return 0.0, 1.0
    least, greatest = np.iinfo(dtype).min, np.iinfo(dtype).max
    # The greatest 64-bit integer would be rounded up, out of range.
    return float(least), float(greatest) if int(float(greatest)) == greatest else float(np.nextafter(greatest, 0))
