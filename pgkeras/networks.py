"""Networks: Keras models from an observation to features, one kind per kind of observation space."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pgkeras.backend import keras
from pgkeras.errors import UnsupportedSpaceError
from pgkeras.spaces import Box, Space
from pgkeras.spec import graph_dtype

__all__ = ["for_observation_space", "mlp", "orthogonal"]


def for_observation_space(space: Space, hidden: Sequence[int], activation: str, seed: int) -> keras.Model:
    """The default network for a space: an MLP for vectors.

    Raises:
        UnsupportedSpaceError: There is none for that space.
    """
    if isinstance(space, Box) and len(space.shape) == 1 and space.low.size:
        return mlp(space, hidden, activation, seed)
    raise UnsupportedSpaceError(
        f"observation space {space} is not supported by the built-in networks: pgkeras handles vectors, "
        "Box(low, high, (n,)). Flatten it with gymnasium.wrappers.FlattenObservation, or pass a keras.Model as network."
    )


def mlp(space: Box, hidden: Sequence[int], activation: str, seed: int) -> keras.Model:
    """Dense layers: ``[B, n]`` to ``[B, hidden[-1]]``.

    Args:
        space: A space of vectors.
        hidden: Width of each layer.
        activation: A Keras activation's name.
        seed: Seed of the initial weights.
    """
    observation = keras.Input(space.shape, dtype=graph_dtype(space.dtype).name, name="observation")
    x = keras.ops.cast(observation, "float32")
    for i, width in enumerate(hidden):
        x = keras.layers.Dense(
            width, activation=activation, kernel_initializer=orthogonal(math.sqrt(2), seed + i), name=f"hidden_{i}"
        )(x)
    return keras.Model(observation, x, name="mlp")


def orthogonal(gain: float, seed: int) -> keras.initializers.Initializer:
    """Orthogonal initial weights (Saxe et al. 2014), times ``gain``: sqrt(2) for hidden layers is customary."""
    return keras.initializers.Orthogonal(gain, seed=seed)
