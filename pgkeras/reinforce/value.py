"""ValueFunction: a learned baseline V(s), the expected return from a state.

It is fitted to the returns of each batch *after* the policy's gradient step on the batch. The baseline therefore
depends on earlier episodes only and leaves the policy gradient unbiased (Sutton & Barto 2nd ed., section 13.4), if no
episode is truncated. The returns of truncated episodes are bootstrapped with V, which adds bias. Network, optimizer and
loss are separate from the policy's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.backend import keras, tf
from pgkeras.errors import TrainingError
from pgkeras.policy import networks
from pgkeras.policy.moments import Moments
from pgkeras.policy.networks import ObservationNormalization
from pgkeras.reinforce.adam import Adam
from pgkeras.settings.groups import ValueSettings
from pgkeras.spaces.layout import Layout

__all__ = ["ValueFunction"]


class ValueFunction:
    """A network that predicts returns from observations, with its own Adam optimizer.

    The network predicts normalized returns, ``(R - mean) / std`` with running statistics, because its step size must
    not depend on the scale of rewards.

    Args:
        layout: The layout of observations.
        settings: Settings of the network and of its training.
        normalization: The policy's observation normalization, which is shared; None without normalization.
        seed: Seed of the initial weights and of the shuffling.
    """

    def __init__(
        self,
        layout: Layout,
        settings: ValueSettings,
        normalization: ObservationNormalization | None,
        seed: int,
    ) -> None:
        observation = keras.Input(layout.shape, dtype=layout.dtype.name)
        # No layer normalization in the value network, because with it the policy learns less (docs/architecture.md).
        settings = replace(settings, layer_normalization=False)
        features = networks.body(layout, settings, normalization, seed)(observation)
        self._model = keras.Model(
            observation, keras.layers.Dense(1, kernel_initializer=networks.orthogonal(1.0, seed))(features)
        )
        self.optimizer = Adam(settings.value_learning_rate)
        self.optimizer.build(self._model.trainable_variables)
        self.returns = Moments.zeros(())
        self._passes, self._batch_size, self._seed = settings.value_passes, settings.value_batch_size, seed
        self._rows_at_once = layout.rows_at_once
        spec = tf.TensorSpec([None, *layout.shape], layout.dtype)
        self._predict = tf.function(lambda o: self._model(o)[:, 0], [spec], autograph=False)
        batches = tf.TensorSpec([None, None], tf.int32)
        self._fit = tf.function(self._gradient_steps, [spec, tf.TensorSpec([None]), batches], autograph=False)

    @property
    def variables(self) -> list[tf.Variable]:
        """The network's weights."""
        return [v.value for v in self._model.trainable_variables]

    def predict(self, observations: NDArray[Any]) -> NDArray[np.float64]:
        """Predicts returns ``[N]`` for observations ``[N, ...]``; zeros before the first fit."""
        if not self.returns.count:
            return np.zeros(len(observations))
        parts = range(0, len(observations), self._rows_at_once)
        normalized = np.concatenate([self._predict(observations[i : i + self._rows_at_once]).numpy() for i in parts])
        return np.asarray(self.returns.mean + self.returns.std * normalized.astype(np.float64))

    def fit(self, observations: NDArray[Any], returns: NDArray[np.float64], epoch: int) -> float:
        """Fits the network to returns ``[N]`` of observations ``[N, ...]`` by least squares.

        Each pass shuffles the steps and splits them into minibatches. It omits the remainder that does not fill a
        minibatch. Fewer steps than a minibatch form one minibatch.

        Returns:
            The mean squared error divided by the variance of the returns: the mean over the minibatches of the last
            pass, each measured before its own update.

        Raises:
            TrainingError: The loss or a weight is not finite after the fit.
        """
        self.returns.update(returns)
        targets = ((returns - self.returns.mean) / self.returns.std).astype(np.float32)
        generator = np.random.default_rng([self._seed, epoch])
        size = min(self._batch_size, len(targets))
        rows = len(targets) // size
        order = [generator.permutation(len(targets))[: rows * size].reshape(rows, size) for _ in range(self._passes)]
        losses = self._fit(observations, targets, np.concatenate(order).astype(np.int32)).numpy()
        loss = float(losses[-rows:].mean())
        if not (np.isfinite(loss) and all(np.isfinite(v.numpy()).all() for v in self.variables)):
            raise TrainingError(
                f"epoch {epoch}: the loss of the value network ({loss}) or its weights are not finite; the last "
                "checkpoint is intact. A smaller value_learning_rate may help"
            )
        return loss

    def state(self) -> dict[str, NDArray[Any]]:
        """Returns all state that training changes, by name."""
        variables = {f"value_variable_{i}": v.numpy() for i, v in enumerate(self._all_variables())}
        return variables | self.returns.state("value_")

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restores a :meth:`state`."""
        for i, variable in enumerate(self._all_variables()):
            variable.assign(state[f"value_variable_{i}"])
        self.returns.restore(state, "value_")

    def _all_variables(self) -> list[tf.Variable]:
        return [*self.variables, *(v.value for v in self.optimizer.variables)]

    def _gradient_steps(self, observations: tf.Tensor, targets: tf.Tensor, batches: tf.Tensor) -> tf.Tensor:
        variables = self._model.trainable_variables

        def step(batch: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                predicted = self._model(tf.gather(observations, batch), training=True)[:, 0]
                loss = tf.reduce_mean(tf.square(predicted - tf.gather(targets, batch)))
            self.optimizer.apply(tape.gradient(loss, variables), variables)
            return loss

        # Sequential, because each step starts from the weights of the previous one.
        return tf.map_fn(step, batches, fn_output_signature=tf.float32, parallel_iterations=1)
