"""Networks: Keras models from an observation to features, one kind per kind of observation space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pgkeras.backend import keras
from pgkeras.errors import UnsupportedSpaceError
from pgkeras.moments import Moments
from pgkeras.spaces import Box, Space
from pgkeras.spec import graph_dtype

__all__ = ["ObservationNormalization", "for_observation_space", "mlp", "orthogonal"]


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


@keras.saving.register_keras_serializable("pgkeras")
class ObservationNormalization(keras.layers.Layer):
    """``clip((x - mean) / std, -10, 10)``, with statistics that are set from outside and never trained.

    It is part of the policy's graph, so that an exported policy cannot lose it.
    """

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Creates the statistics: mean 0 and standard deviation 1."""
        shape = tuple(input_shape[1:])
        self.mean = self.add_weight(shape, "zeros", trainable=False, name="mean")
        self.scale = self.add_weight(shape, "ones", trainable=False, name="scale")

    def call(self, inputs: Any) -> Any:
        """Normalises observations."""
        return keras.ops.clip((keras.ops.cast(inputs, "float32") - self.mean) * self.scale, -10.0, 10.0)

    def freeze(self, moments: Moments) -> None:
        """Takes over the statistics."""
        self.mean.assign(moments.mean)
        self.scale.assign(1.0 / (moments.std + 1e-6))


def orthogonal(gain: float, seed: int) -> keras.initializers.Initializer:
    """Orthogonal initial weights (Saxe et al. 2014), times ``gain``: sqrt(2) for hidden layers is customary."""
    return keras.initializers.Orthogonal(gain, seed=seed)
