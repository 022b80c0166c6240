"""Keras layers that Keras does not provide."""

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
    """Returns an initializer of orthogonal weights times ``gain`` (Saxe et al. 2014), sqrt(2) for hidden layers."""
    return keras.initializers.Orthogonal(gain, seed=seed)


def activated(layer: keras.layers.Layer, x: Any, activation: str, layer_normalization: bool) -> Any:
    """Applies a layer, optionally layer normalization, and an activation; returns ``[..., C]``.

    Args:
        layer: A layer without an activation. It must have a bias also with layer normalization, because without a bias
            the output of the first layer would be the same for all positive multiples of an input.
        x: The layer's input.
        activation: Name of a Keras activation.
        layer_normalization: Whether to normalize the C features before the activation (Ba et al. 2016, "Layer
            normalization", section 3.1).
    """
    features = layer(x)
    if layer_normalization:
        features = keras.layers.LayerNormalization(name=f"{layer.name}_normalization")(features)
    return keras.layers.Activation(activation)(features)


@keras.saving.register_keras_serializable("pgkeras")
class ObservationNormalization(keras.layers.Layer):
    """Computes ``clip((x - mean) / std, -10, 10)``, with statistics that are assigned and not trained.

    The layer is part of the policy's graph, so an exported policy includes it.

    Args:
        selected: True for the elements of a row that are normalized, of the row's shape. The others, such as token
            numbers, are returned unchanged. None for all.
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
        """Normalizes observations."""
        x = keras.ops.cast(inputs, "float32")
        normalized = keras.ops.clip((x - self.mean) * self.scale, -10.0, 10.0)
        if self.selected is None:
            return normalized
        selected = self.selected.astype(np.float32)
        return normalized * selected + x * (1.0 - selected)

    def freeze(self, moments: Moments) -> None:
        """Copies the statistics into the layer."""
        self.mean.assign(moments.mean)
        self.scale.assign(1.0 / (moments.std + 1e-6))

    def get_config(self) -> dict[str, Any]:
        """Returns the configuration for Keras serialization."""
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
        """Returns the configuration for Keras serialization."""
        return {**super().get_config(), "size": self.size, "initial_value": self.initial_value}


@keras.saving.register_keras_serializable("pgkeras")
class TextReader(keras.layers.Layer):
    """An embedding and a GRU from token numbers ``[B, L]``, padded at the end, to features ``[B, units]``.

    The features are the GRU's state after the last token that is not padding. The GRU (Cho et al. 2014) is unrolled
    over the L tokens, because LiteRT has no loops.

    Args:
        tokens: Number of different token numbers.
        width: Width of the embedding.
        units: Number of units of the GRU.
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
        """Computes the features."""
        numbers = keras.ops.cast(inputs, "int32")
        embedded = keras.ops.take(self.embedding, numbers, axis=0)
        real = keras.ops.cast(keras.ops.not_equal(numbers, PADDING), "float32")
        # Zeros by a product with zeros, because LiteRT can infer its shape.
        state = keras.ops.matmul(embedded[:, 0], keras.ops.zeros((self.width, self.units)))
        for i in range(inputs.shape[1]):
            next_state, _ = self.cell(embedded[:, i], [state])
            state = state + real[:, i : i + 1] * (next_state - state)
        return state

    def get_config(self) -> dict[str, Any]:
        """Returns the configuration for Keras serialization."""
        config = {"tokens": self.tokens, "width": self.width, "units": self.units, "seed": self.seed}
        return {**super().get_config(), **config}
