"""Policy: a network and a distribution, and the act graph made of the two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from pgkeras import distributions, networks
from pgkeras.backend import keras, tf
from pgkeras.errors import UnsupportedSpaceError
from pgkeras.spaces import Space
from pgkeras.spec import PolicySpec, graph_dtype

__all__ = ["Policy"]

# Small enough that a fresh policy's actions are nearly equally likely (or have nearly the same mean) in every state.
_HEAD_GAIN = 0.01


class Policy:
    """P(action | observation): a network that puts out the parameters of a distribution over actions.

    Every method is a pure function of its arguments and the network's weights, which can be arguments too.

    Args:
        observation_space: What the policy observes.
        action_space: What it does.
        network: From observations ``[B, *observation_space.shape]`` to features ``[B, F]``; a layer from those to the
            distribution's parameters is added. By default an MLP of ``hidden`` layers.
        hidden: Width of each layer of the default network.
        activation: Activation of the default network.
        distribution: Family of the action distribution, or "auto"; see :func:`distributions.for_action_space`.
        initial_log_std: Initial log standard deviation of continuous actions.
        normalize: Whether observations are normalised by ``normalization``, whose statistics the caller keeps.
        seed: Seed of the initial weights.

    Raises:
        UnsupportedSpaceError: No network or distribution handles one of the spaces, or the given network does not
            fit the observation space.
    """

    def __init__(
        self,
        observation_space: Space,
        action_space: Space,
        network: keras.Model | None = None,
        *,
        hidden: Sequence[int] = (64, 64),
        activation: str = "tanh",
        distribution: str = distributions.AUTO,
        initial_log_std: float = 0.0,
        normalize: bool = False,
        seed: int = 0,
    ) -> None:
        self.distribution = distributions.for_action_space(action_space, distribution)
        self.spec = PolicySpec(observation_space, action_space, self.distribution.kind)
        body = network or networks.for_observation_space(observation_space, hidden, activation, seed)
        self.normalization = networks.ObservationNormalization(name="normalization") if normalize else None
        observation = keras.Input(
            observation_space.shape, dtype=graph_dtype(observation_space.dtype).name, name="observation"
        )
        seen = observation if self.normalization is None else self.normalization(observation)
        features = _features(body, seen, observation_space)
        parameters = _head(features, self.distribution, initial_log_std, seed + 1000)
        self.model = keras.Model(observation, parameters, name="policy")

    def input_signature(self) -> dict[str, tf.TensorSpec]:
        """The act graph's inputs by name: a batch of observations and their noise."""
        space = self.spec.observation_space
        return {
            "observation": tf.TensorSpec([None, *space.shape], graph_dtype(space.dtype), "observation"),
            "noise": tf.TensorSpec([None, self.spec.noise_size], tf.float32, "noise"),
        }

    @property
    def variables(self) -> list[tf.Variable]:
        """All weights: the trainable ones, then the others; the order of ``weights`` arguments."""
        return [v.value for v in (*self.model.trainable_variables, *self.model.non_trainable_variables)]

    def weights(self) -> list[NDArray[Any]]:
        """The values of :attr:`variables`."""
        return [v.numpy() for v in self.variables]

    def assign(self, weights: Sequence[NDArray[Any]]) -> None:
        """Sets the values of :attr:`variables`."""
        for variable, weight in zip(self.variables, weights, strict=True):
            variable.assign(weight)

    def parameters(
        self, observation: tf.Tensor, weights: Sequence[tf.Tensor] | None = None, training: bool = False
    ) -> tf.Tensor:
        """The distribution's parameters ``[B, P]`` for observations ``[B, ...]``, with these weights or the current."""
        if weights is None:
            return self.model(observation, training=training)
        count = len(self.model.trainable_variables)
        return self.model.stateless_call(weights[:count], weights[count:], observation, training=training)[0]

    def sample(
        self, observation: tf.Tensor, noise: tf.Tensor, weights: Sequence[tf.Tensor] | None = None
    ) -> dict[str, tf.Tensor]:
        """What collecting an episode needs: ``sample``, which is stored, and ``action``, which is played."""
        sample = self.distribution.sample(self.parameters(observation, weights), noise)
        return {"sample": sample, "action": self.distribution.action(sample)}

    def greedy(
        self,
        observation: tf.Tensor,
        noise: tf.Tensor,
        weights: Sequence[tf.Tensor] | None = None,
    ) -> dict[str, tf.Tensor]:
        """What :meth:`sample` gives, of the distribution's mode."""
        mode = self.distribution.mode(self.parameters(observation, weights))
        return {"sample": mode, "action": self.distribution.action(mode)}

    def distribution_of(
        self, observation: tf.Tensor, weights: Sequence[tf.Tensor] | None = None
    ) -> dict[str, tf.Tensor]:
        """The distribution: its ``entropy`` ``[B]``, its mode as ``greedy_action``, and its parameters by name."""
        return self._describe(self.parameters(observation, weights))

    def act(
        self, observation: tf.Tensor, noise: tf.Tensor, weights: Sequence[tf.Tensor] | None = None
    ) -> dict[str, tf.Tensor]:
        """The act graph: ``action``, its ``log_prob`` ``[B]``, and all that :meth:`distribution_of` gives."""
        parameters = self.parameters(observation, weights)
        sample = self.distribution.sample(parameters, noise)
        return {
            "action": self.distribution.action(sample),
            "log_prob": self.distribution.log_prob(parameters, sample),
            **self._describe(parameters),
        }

    def _describe(self, parameters: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            "greedy_action": self.distribution.action(self.distribution.mode(parameters)),
            "entropy": self.distribution.entropy(parameters),
            **self.distribution.named_parameters(parameters),
        }


@keras.saving.register_keras_serializable("pgkeras")
class StateIndependent(keras.layers.Layer):
    """Appends ``size`` trainable numbers, the same for every row, to ``[B, n]``: ``[B, n + size]``."""

    def __init__(self, size: int, initial_value: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size, self.initial_value = size, initial_value

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Creates the numbers."""
        self.numbers = self.add_weight((self.size,), keras.initializers.Constant(self.initial_value), name="numbers")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Appends them."""
        return keras.ops.concatenate([inputs, keras.ops.zeros_like(inputs[:, : self.size]) + self.numbers], axis=-1)

    def get_config(self) -> dict[str, Any]:
        """For Keras serialisation."""
        return {**super().get_config(), "size": self.size, "initial_value": self.initial_value}


def _features(network: keras.Model, observation: Any, space: Space) -> Any:
    """The network's features for a symbolic observation, which may have been normalised."""
    wanted = f"expected {(None, *space.shape)} for observation space {space}, and features (None, F)"
    takes = getattr(network, "input_shape", (None, *space.shape)) if network.built else (None, *space.shape)
    if takes != (None, *space.shape):
        raise UnsupportedSpaceError(f"network {network.name!r} takes {takes}; {wanted}")
    try:
        features = network(observation)
    except Exception as error:  # a network's layers may raise anything
        raise UnsupportedSpaceError(
            f"network {network.name!r} refuses observations: {type(error).__name__}: {error}; {wanted}"
        ) from error
    if len(getattr(features, "shape", ())) != 2:
        raise UnsupportedSpaceError(f"network {network.name!r} gives {features}; {wanted}")
    return features


def _head(features: Any, distribution: distributions.Distribution, initial_log_std: float, seed: int) -> Any:
    free = distribution.state_independent_size
    parameters = keras.layers.Dense(
        distribution.parameter_size - free,
        kernel_initializer=networks.orthogonal(_HEAD_GAIN, seed),
        name="head",
    )(features)
    return StateIndependent(free, initial_log_std, name="log_std")(parameters) if free else parameters
