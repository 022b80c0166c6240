"""Memory: what a policy carries from step to step of an episode, by a GRU or an LSTM.

While acting it is one step at a time, state in and state out; while training, the same weights go over whole episodes.
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
        units: How many numbers it puts out.
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
        self._parts = 1 if kind == "gru" else 2  # an LSTM carries its output and its cell
        self.state_size = units * self._parts

    def step(self, features: Any, state: Any) -> tuple[Any, Any]:
        """The output ``[B, units]`` for one step's features ``[B, F]``, and the next state."""
        output, after = self._layer.cell(features, keras.ops.split(state, self._parts, axis=-1))
        return output, keras.ops.concatenate(after, axis=-1) if self._parts > 1 else after[0]

    def episodes(self, features: tf.Tensor) -> tf.Tensor:
        """The same for all steps of whole episodes, ``[T, B, F]`` to ``[T, B, units]``, from a state of zeros."""
        return tf.transpose(self._layer(tf.transpose(features, [1, 0, 2])), [1, 0, 2])
