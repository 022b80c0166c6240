"""Memory: a GRU or an LSTM that carries a state from step to step of an episode.

For acting, it computes one step at a time, from a state to the next state. For training, it computes whole episodes
with the same weights.
"""

from __future__ import annotations

from typing import Any

from pgkeras.backend import keras, tf
from pgkeras.policy.networks import orthogonal

__all__ = ["Memory"]


class Memory:
    """A recurrent layer: GRU (Cho et al. 2014) or LSTM (Hochreiter & Schmidhuber 1997).

    Args:
        kind: "gru" or "lstm".
        units: Number of outputs.
        seed: Seed of the initial weights.
    """

    def __init__(self, kind: str, units: int, seed: int) -> None:
        layer = keras.layers.GRU if kind == "gru" else keras.layers.LSTM
        self._layer = layer(
            units,
            return_sequences=True,
            kernel_initializer=keras.initializers.GlorotUniform(seed),
            recurrent_initializer=orthogonal(1.0, seed + 1),
            name="memory",
        )
        self._parts = 1 if kind == "gru" else 2  # the state of an LSTM has two parts: output and cell
        self.state_size = units * self._parts

    def step(self, features: Any, state: Any) -> tuple[Any, Any]:
        """Returns the output ``[B, units]`` for one step's features ``[B, F]``, and the next state."""
        output, parts = self._layer.cell(features, keras.ops.split(state, self._parts, axis=-1))
        return output, keras.ops.concatenate(parts, axis=-1) if self._parts > 1 else parts[0]

    def episodes(self, features: tf.Tensor) -> tf.Tensor:
        """Returns the outputs ``[T, B, units]`` for whole episodes ``[T, B, F]``, starting from a state of zeros."""
        return tf.transpose(self._layer(tf.transpose(features, [1, 0, 2])), [1, 0, 2])
