"""Random observations, to run a graph without an environment."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.spaces import Box, Text, draw_integers
from pgkeras.spaces.layout import Layout, Leaf
from pgkeras.spaces.tokenizer import FIRST

__all__ = ["random_observations"]


def random_observations(layout: Layout, rows: int, generator: np.random.Generator) -> NDArray[Any]:
    """Returns rows ``[rows, *layout.shape]`` of random observations from the space.

    Action masks allow each action with probability 1/2, and may allow none.
    """
    parts = [_random_values(leaf, rows, generator).astype(layout.dtype) for leaf in layout.leaves]
    if not layout.packed:
        return parts[0]
    mask = (generator.random((rows, layout.mask_size)) < 0.5).astype(layout.dtype)
    return np.concatenate([*(part.reshape(rows, -1) for part in parts), mask], axis=1)


def _random_values(leaf: Leaf, rows: int, generator: np.random.Generator) -> NDArray[Any]:
    space, shape = leaf.space, (rows, *leaf.shape)
    if isinstance(space, Text):
        return generator.integers(len(space.vocabulary) + FIRST, size=shape)
    if not isinstance(space, Box) or space.dtype.kind != "f":
        return draw_integers(space, rows, generator)
    # Declared bounds are often huge or infinite, while real observations are of order 1.
    return np.clip(generator.standard_normal(shape) * 3, space.low, space.high).astype(space.dtype)
