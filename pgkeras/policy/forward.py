"""The forward pass of a policy, without memory and with it.

While episodes are played a policy computes one step at a time; while it is trained, it computes all steps of a batch.
Both ways use the same weights. Layers that Keras runs differently in training (``Dropout``, ``BatchNormalization``)
always run in inference mode here, so that the gradient is that of the policy that played.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pgkeras.backend import keras, tf
from pgkeras.policy.memory import Memory
from pgkeras.spaces.layout import Layout

__all__ = ["Feedforward", "ForwardPass", "Recurrent", "weights_of"]


class ForwardPass(Protocol):
    """From observations to the parameters of the distribution.

    Attributes:
        model: The whole network, for one step.
        axes: Leading axes of a batch for training: 1 for steps ``[N, ...]``, 2 for episodes ``[T, B, ...]``.
    """

    model: keras.Model
    axes: int

    def step(
        self, observation: tf.Tensor, state: tf.Tensor | None, weights: Sequence[tf.Tensor] | None
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """The parameters ``[B, P]`` for one step ``[B, ...]``, and the state after it; see :meth:`Policy.step`."""
        ...

    def unroll(self, observation: tf.Tensor) -> tf.Tensor:
        """The parameters ``[N, P]`` of all steps of a batch for training, a row for each step."""
        ...

    def flat(self, array: tf.Tensor) -> tf.Tensor:
        """An array of a batch with one row for each step, ``[N, ...]``."""
        ...

    def batch(self, array: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[Any]:
        """What a batch for training has of an array ``[T, B, ...]`` whose real steps ``mask`` ``[T, B]`` marks."""
        ...


class Feedforward:
    """A policy without memory: each step by itself. A batch for training is all real steps.

    Args:
        layout: How observations are laid out.
        body: From observations to features.
        head: From features to parameters.
    """

    axes = 1

    def __init__(self, layout: Layout, body: keras.Model, head: keras.Model) -> None:
        observation = keras.Input(layout.shape, dtype=layout.dtype.name, name="observation")
        self.model = keras.Model(observation, head(body(observation)), name="policy")

    def step(
        self, observation: tf.Tensor, state: tf.Tensor | None, weights: Sequence[tf.Tensor] | None
    ) -> tuple[tf.Tensor, None]:
        """See :class:`ForwardPass`."""
        return _call(self.model, observation, weights), None

    def unroll(self, observation: tf.Tensor) -> tf.Tensor:
        """See :class:`ForwardPass`."""
        return self.model(observation, training=False)

    def flat(self, array: tf.Tensor) -> tf.Tensor:
        """See :class:`ForwardPass`."""
        return array

    def batch(self, array: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[Any]:
        """See :class:`ForwardPass`."""
        return array[mask]


class Recurrent:
    """A policy with memory. A batch for training is whole episodes with their padding, each from its beginning.

    What a step remembers does not depend on later ones, so that padding after an episode's end changes nothing.

    Args:
        layout: How observations are laid out.
        body: From observations to features.
        memory: From features to what is remembered of them and of those before.
        head: From that to parameters.
    """

    axes = 2

    def __init__(self, layout: Layout, body: keras.Model, memory: Memory, head: keras.Model) -> None:
        self._body, self._memory, self._head = body, memory, head
        observation = keras.Input(layout.shape, dtype=layout.dtype.name, name="observation")
        state = keras.Input([memory.state_size], name="state")
        recalled, after = memory.step(body(observation), state)
        self.model = keras.Model([observation, state], [head(recalled), after], name="policy")

    def step(
        self, observation: tf.Tensor, state: tf.Tensor | None, weights: Sequence[tf.Tensor] | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """See :class:`ForwardPass`."""
        parameters, after = _call(self.model, [observation, state], weights)
        return parameters, after

    def unroll(self, observation: tf.Tensor) -> tf.Tensor:
        """See :class:`ForwardPass`."""
        steps, episodes = tf.shape(observation)[0], tf.shape(observation)[1]
        features = self._body(self.flat(observation), training=False)
        recalled = self._memory.episodes(tf.reshape(features, [steps, episodes, features.shape[-1]]))
        return self._head(self.flat(recalled), training=False)

    def flat(self, array: tf.Tensor) -> tf.Tensor:
        """See :class:`ForwardPass`."""
        return tf.reshape(array, [-1, *array.shape[2:]])

    def batch(self, array: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[Any]:
        """See :class:`ForwardPass`."""
        if array.dtype.kind != "f" or np.isfinite(array).all():
            return array
        # The padding may hold a terminal state with NaN, which a weight of 0 does not remove: NaN * 0 is NaN.
        rows = np.minimum(np.arange(len(mask))[:, np.newaxis], mask.sum(axis=0) - 1)
        return np.asarray(array[rows, np.arange(mask.shape[1])])


def weights_of(model: keras.Model) -> list[keras.Variable]:
    """All weights of a network: the trainable ones, then the others.

    Recurrent layers own the state of a random generator, for dropout, which is no weight.
    """
    others = [v for v in model.non_trainable_variables if keras.backend.is_float_dtype(v.dtype)]
    return [*model.trainable_variables, *others]


def _call(model: keras.Model, inputs: Any, weights: Sequence[tf.Tensor] | None) -> Any:
    """What a network gives, with other weights than its own if there are any."""
    if weights is None:
        return model(inputs)
    count = len(model.trainable_variables)
    # By identity, since two layers of a given network may have one name, and so their variables one path.
    given = {id(v): weight for v, weight in zip(weights_of(model), weights, strict=True)}
    others = [given.get(id(v), v.value) for v in model.non_trainable_variables]
    return model.stateless_call(weights[:count], others, inputs)[0]
