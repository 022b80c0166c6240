"""The forward pass of a policy, with or without memory.

While episodes are played, the forward pass computes one step at a time. In training it computes all steps of a batch
with the same weights. Layers that behave differently in training (``Dropout``, ``BatchNormalization``) always run in
inference mode here, because the gradient must be that of the policy that played.
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
    """Computes the parameters of the distribution from observations.

    Attributes:
        model: The whole network, for one step.
        axes: Number of leading axes of a training batch: 1 for steps ``[N, ...]``, 2 for episodes ``[T, B, ...]``.
    """

    model: keras.Model
    axes: int

    def step(
        self, observation: tf.Tensor, state: tf.Tensor | None, weights: Sequence[tf.Tensor] | None
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Returns the parameters ``[B, P]`` for one step ``[B, ...]`` and the next state; see :meth:`Policy.step`."""
        ...

    def unroll(self, observation: tf.Tensor) -> tf.Tensor:
        """Returns the parameters ``[N, P]`` of all steps of a training batch, one row per step."""
        ...

    def flat(self, array: tf.Tensor) -> tf.Tensor:
        """Reshapes an array of a training batch to one row per step, ``[N, ...]``."""
        ...

    def batch(self, array: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[Any]:
        """Converts an array ``[T, B, ...]`` to a training batch; ``mask`` ``[T, B]`` is true for real steps."""
        ...


class Feedforward:
    """The forward pass without memory. A training batch holds all real steps, ``[N, ...]``.

    Args:
        layout: The layout of observations.
        body: Maps observations to features.
        head: Maps features to parameters.
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
    """The forward pass with memory. A training batch holds whole padded episodes, ``[T, B, ...]``.

    Padding after an episode's end does not affect the episode, because a state does not depend on later steps.

    Args:
        layout: The layout of observations.
        body: Maps observations to features.
        memory: Maps features and a state to outputs and the next state.
        head: Maps the memory's outputs to parameters.
    """

    axes = 2

    def __init__(self, layout: Layout, body: keras.Model, memory: Memory, head: keras.Model) -> None:
        self._body, self._memory, self._head = body, memory, head
        observation = keras.Input(layout.shape, dtype=layout.dtype.name, name="observation")
        state = keras.Input([memory.state_size], name="state")
        output, next_state = memory.step(body(observation), state)
        self.model = keras.Model([observation, state], [head(output), next_state], name="policy")

    def step(
        self, observation: tf.Tensor, state: tf.Tensor | None, weights: Sequence[tf.Tensor] | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """See :class:`ForwardPass`."""
        parameters, next_state = _call(self.model, [observation, state], weights)
        return parameters, next_state

    def unroll(self, observation: tf.Tensor) -> tf.Tensor:
        """See :class:`ForwardPass`."""
        steps, episodes = tf.shape(observation)[0], tf.shape(observation)[1]
        features = self._body(self.flat(observation), training=False)
        outputs = self._memory.episodes(tf.reshape(features, [steps, episodes, features.shape[-1]]))
        return self._head(self.flat(outputs), training=False)

    def flat(self, array: tf.Tensor) -> tf.Tensor:
        """See :class:`ForwardPass`."""
        return tf.reshape(array, [-1, *array.shape[2:]])

    def batch(self, array: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[Any]:
        """See :class:`ForwardPass`."""
        if array.dtype.kind != "f" or np.isfinite(array).all():
            return array
        # Padding may contain NaN, from a terminal observation. A weight of 0 does not remove it, because NaN * 0 is
        # NaN. The padding is therefore replaced by the episode's last row.
        rows = np.minimum(np.arange(len(mask))[:, np.newaxis], mask.sum(axis=0) - 1)
        return np.asarray(array[rows, np.arange(mask.shape[1])])


def weights_of(model: keras.Model) -> list[keras.Variable]:
    """Returns all weights of a network: the trainable ones, then the others.

    The variables of recurrent layers also include the integer state of a random generator, for dropout. It is omitted.
    """
    others = [v for v in model.non_trainable_variables if keras.backend.is_float_dtype(v.dtype)]
    return [*model.trainable_variables, *others]


def _call(model: keras.Model, inputs: Any, weights: Sequence[tf.Tensor] | None) -> Any:
    """Calls a network, with ``weights`` in place of its own weights unless they are None."""
    if weights is None:
        return model(inputs)
    count = len(model.trainable_variables)
    # Keyed by id, because two layers of a user's network may have the same name, and their variables the same path.
    by_id = {id(v): weight for v, weight in zip(weights_of(model), weights, strict=True)}
    others = [by_id.get(id(v), v.value) for v in model.non_trainable_variables]
    return model.stateless_call(weights[:count], others, inputs)[0]
