"""Keras layers that the library lacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.backend import keras
from pgkeras.policy.moments import Moments
from pgkeras.spaces.tokenizer import PADDING

__all__ = ["ObservationNormalization", "StateIndependent", "TextReader", "activated", "orthogonal"]


def orthogonal(gain: float, seed: int) -> keras.initializers.Initializer:
    """Orthogonal initial weights (Saxe et al. 2014), times ``gain``: sqrt(2) for hidden layers is customary."""
    return keras.initializers.Orthogonal(gain, seed=seed)


def activated(layer: keras.layers.Layer, x: Any, activation: str, layer_normalization: bool) -> Any:
    """A layer's activation, ``[..., C]``, of what it makes of ``x``.

    Args:
        layer: It has no activation of its own. It has a bias also where it is normalised: without one, all multiples of
            an input would be the same to the first layer.
        x: What it takes.
        activation: Keras' name of the activation.
        layer_normalization: Whether the C features are normalised before it (Ba et al. 2016, "Layer normalization",
            section 3.1).
    """
    features = layer(x)
    if layer_normalization:
        features = keras.layers.LayerNormalization(name=f"{layer.name}_normalization")(features)
    return keras.layers.Activation(activation)(features)


@keras.saving.register_keras_serializable("pgkeras")
class ObservationNormalization(keras.layers.Layer):
    """``clip((x - mean) / std, -10, 10)``, with statistics that are set from outside and never trained.

    It is part of the policy's graph, so that an exported policy cannot lose it.

    Args:
        selected: Which elements of a row are normalised, of its shape; the others, such as the numbers of tokens, pass
            through as they are. None for all.
    """

    def __init__(self, selected: NDArray[np.bool_] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.selected = None if selected is None or np.all(selected) else np.asarray(selected, np.bool_)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Creates the statistics: mean 0 and standard deviation 1."""
        shape = tuple(input_shape[1:])
        self.mean = self.add_weight(shape, "zeros", trainable=False, name="mean")
        self.scale = self.add_weight(shape, "ones", trainable=False, name="scale")

    def call(self, inputs: Any) -> Any:
        """Normalises observations."""
        x = keras.ops.cast(inputs, "float32")
        normalised = keras.ops.clip((x - self.mean) * self.scale, -10.0, 10.0)
        if self.selected is None:
            return normalised
        chosen = self.selected.astype(np.float32)
        return normalised * chosen + x * (1.0 - chosen)

    def freeze(self, moments: Moments) -> None:
        """Copies the statistics into the layer."""
        self.mean.assign(moments.mean)
        self.scale.assign(1.0 / (moments.std + 1e-6))

    def get_config(self) -> dict[str, Any]:
        """For Keras serialisation."""
        return {**super().get_config(), "selected": None if self.selected is None else self.selected.tolist()}


@keras.saving.register_keras_serializable("pgkeras")
class StateIndependent(keras.layers.Layer):
    """Appends ``size`` trainable numbers, the same for every row, to ``[B, n]``: ``[B, n + size]``."""

    def __init__(self, size: int, initial_value: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = size
        self.initial_value = initial_value

    def build(self, input_shape: Any) -> None:
        """Creates the numbers."""
        self.numbers = self.add_weight(
            (self.size,), keras.initializers.Constant(self.initial_value), name="numbers", trainable=True
        )

    def call(self, inputs: Any) -> Any:
        """Appends them."""
        return keras.ops.concatenate([inputs, keras.ops.zeros_like(inputs[:, : self.size]) + self.numbers], axis=-1)

    def get_config(self) -> dict[str, Any]:
        """For Keras serialisation."""
        return {**super().get_config(), "size": self.size, "initial_value": self.initial_value}


@keras.saving.register_keras_serializable("pgkeras")
class TextReader(keras.layers.Layer):
    """Reads the numbers of tokens, ``[B, L]`` padded at the end, to features ``[B, units]``: an embedding and a GRU.

    The GRU (Cho et al. 2014) is unrolled over the L tokens, since LiteRT has no loops; the state after the last token
    that is not padding is the answer.

    Args:
        tokens: How many numbers there are.
        width: Of the embedding.
        units: Of the GRU.
        seed: Seed of the initial weights.
    """

    def __init__(self, tokens: int, width: int, units: int, seed: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tokens, self.width, self.units, self.seed = tokens, width, units, seed
        self.cell = keras.layers.GRUCell(
            units,
            kernel_initializer=keras.initializers.GlorotUniform(seed),
            recurrent_initializer=orthogonal(1.0, seed + 1),
        )

    def build(self, input_shape: Any) -> None:
        """Creates the embedding and the GRU."""
        initializer = keras.initializers.RandomNormal(stddev=1.0, seed=self.seed + 2)
        self.embedding = self.add_weight((self.tokens, self.width), initializer, name="embedding")
        self.cell.build((None, self.width))

    def call(self, inputs: Any) -> Any:
        """Reads."""
        numbers = keras.ops.cast(inputs, "int32")
        embedded = keras.ops.take(self.embedding, numbers, axis=0)
        real = keras.ops.cast(keras.ops.not_equal(numbers, PADDING), "float32")
        # Zeros in a form of which LiteRT can tell the shape.
        state = keras.ops.matmul(embedded[:, 0], keras.ops.zeros((self.width, self.units)))
        for i in range(inputs.shape[1]):
            after, _ = self.cell(embedded[:, i], [state])
            state = state + real[:, i : i + 1] * (after - state)
        return state

    def get_config(self) -> dict[str, Any]:
        """For Keras serialisation."""
        own = {"tokens": self.tokens, "width": self.width, "units": self.units, "seed": self.seed}
        return {**super().get_config(), **own}
