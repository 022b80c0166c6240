"""Policy: a network and a distribution, and the act graph made of the two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from pgkeras.backend import keras, tf
from pgkeras.policy import distributions, networks
from pgkeras.policy.memory import Memory
from pgkeras.settings.config import Config
from pgkeras.spaces import ArraySpace, Space
from pgkeras.spaces.spec import PolicySpec

__all__ = ["Policy"]

# Small enough that a fresh policy's actions are nearly equally likely (or have nearly the same mean) in every state.
_HEAD_GAIN = 0.01


class Policy:
    """P(action | observation): a network that puts out the parameters of a distribution over actions.

    Every method is a pure function of its arguments and the network's weights, which can be arguments too. Observations
    are rows as ``spec.layout`` lays them out, with the action mask in them where there is one. A policy with memory
    takes a state ``[B, spec.state_size]`` beside them, zeros at the start of an episode, and gives the next.

    What is left out is as :class:`pgkeras.settings.config.Config` has it.

    Args:
        observation_space: What the policy observes.
        action_space: What it does.
        network: From observations to features ``[B, F]``; a layer from those to the distribution's parameters is added.
            See :func:`pgkeras.policy.networks.body`, by default made for the space.
        hidden: Width of each dense layer of the default network.
        activation: Their activation.
        images: What reads images; see :func:`pgkeras.policy.networks.body`.
        memory: "gru" or "lstm" for a policy that remembers what it saw in an episode, or "none".
        memory_units: How much of it.
        mask_size: Length of the action masks that it takes, 0 for none.
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
        action_space: ArraySpace,
        network: keras.Model | None = None,
        *,
        hidden: Sequence[int] = Config.hidden,
        activation: str = Config.activation,
        images: str = Config.network,
        memory: str = Config.memory,
        memory_units: int = Config.memory_units,
        mask_size: int = 0,
        distribution: str = Config.distribution,
        initial_log_std: float = Config.initial_log_std,
        normalize: bool = Config.normalize_observations,
        seed: int = Config.seed,
    ) -> None:
        self.distribution = distributions.for_action_space(action_space, distribution)
        self.memory = Memory(memory, memory_units, seed + 500) if memory != "none" else None
        state_size = self.memory.state_size if self.memory is not None else 0
        self.spec = PolicySpec(observation_space, action_space, self.distribution.kind, state_size, mask_size)
        layout = self.spec.layout
        self.normalization = (
            networks.ObservationNormalization(networks.selected(layout), name="normalization") if normalize else None
        )
        self._body = networks.body(
            layout,
            hidden=hidden,
            activation=activation,
            normalization=self.normalization,
            seed=seed,
            images=images,
            network=network,
        )
        described = f"network {network.name!r}" if network is not None else networks.describe(layout, hidden, images)
        self.architecture = described if self.memory is None else f"{described}, {memory.upper()} {memory_units}"
        """A description of network and distribution, for people."""
        features = keras.Input(self._body.output_shape[1:])
        remembered = features if self.memory is None else keras.Input([memory_units])
        self._head = keras.Model(remembered, _head(remembered, self.distribution, initial_log_std, seed + 1000))
        observation = keras.Input(layout.shape, dtype=layout.dtype.name, name="observation")
        if self.memory is None:
            self.model = keras.Model(observation, self._head(self._body(observation)), name="policy")
        else:
            state = keras.Input([state_size], name="state")
            recalled, after = self.memory.step(self._body(observation), state)
            self.model = keras.Model([observation, state], [self._head(recalled), after], name="policy")

    def input_signature(self) -> dict[str, tf.TensorSpec]:
        """The act graph's inputs by name: a batch of observations, their noise and, with memory, their state."""
        layout = self.spec.layout
        signature = {
            "observation": tf.TensorSpec([None, *layout.shape], layout.dtype, "observation"),
            "noise": tf.TensorSpec([None, self.spec.noise_size], tf.float32, "noise"),
        }
        if self.spec.state_size:
            signature["state"] = tf.TensorSpec([None, self.spec.state_size], tf.float32, "state")
        return signature

    @property
    def variables(self) -> list[tf.Variable]:
        """All weights: the trainable ones, then the others; the order of ``weights`` arguments."""
        return [v.value for v in (*self.model.trainable_variables, *self._statistics)]

    @property
    def names(self) -> list[str]:
        """Keras' paths of the :attr:`variables`, such as "hidden_0/kernel"."""
        return [v.path for v in (*self.model.trainable_variables, *self._statistics)]

    @property
    def _statistics(self) -> list[keras.Variable]:
        # Recurrent layers own the state of a random generator, for dropout, which is no weight.
        return [v for v in self.model.non_trainable_variables if keras.backend.is_float_dtype(v.dtype)]

    def weights(self) -> list[NDArray[Any]]:
        """The values of :attr:`variables`."""
        return [v.numpy() for v in self.variables]

    def assign(self, weights: Sequence[NDArray[Any]]) -> None:
        """Sets the values of :attr:`variables`."""
        for variable, weight in zip(self.variables, weights, strict=True):
            variable.assign(weight)

    @contextmanager
    def with_weights(self, weights: Sequence[NDArray[Any]]) -> Iterator[None]:
        """Has other values of :attr:`variables` for the duration of the block."""
        own = self.weights()
        try:
            self.assign(weights)
            yield
        finally:
            self.assign(own)

    def step(
        self,
        observation: tf.Tensor,
        state: tf.Tensor | None = None,
        weights: Sequence[tf.Tensor] | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """The distribution's parameters ``[B, P]`` for one step, and the state after it.

        Args:
            observation: ``[B, ...]``.
            state: ``[B, state_size]`` for a policy with memory.
            weights: Weights to compute with; None for the current ones.
        """
        inputs = observation if self.memory is None else [observation, state]
        if weights is None:
            outputs = self.model(inputs)
        else:
            count = len(self.model.trainable_variables)
            given = dict(zip([v.path for v in self._statistics], weights[count:], strict=True))
            others = [given.get(v.path, v.value) for v in self.model.non_trainable_variables]
            outputs = self.model.stateless_call(weights[:count], others, inputs)[0]
        parameters, after = (outputs, None) if self.memory is None else outputs
        return self._masked(parameters, observation), after

    def unroll(self, observation: tf.Tensor) -> tf.Tensor:
        """For training: the parameters ``[N, P]`` of all steps of a batch.

        Args:
            observation: ``[N, ...]``; of a policy with memory whole episodes, ``[T, B, ...]``, and then N is T * B.
        """
        return self.parameters(observation, training=True) if self.memory is None else self._unrolled(observation)

    def flat(self, array: tf.Tensor) -> tf.Tensor:
        """An array with one row per step, as :meth:`unroll` returns the parameters: ``[N, ...]``."""
        return array if self.memory is None else tf.reshape(array, [-1, *array.shape[2:]])

    def parameters(self, observation: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The distribution's parameters ``[N, P]`` for observations ``[N, ...]``, of a policy without memory."""
        assert self.memory is None
        return self._masked(self.model(observation, training=training), observation)

    def _unrolled(self, observation: tf.Tensor) -> tf.Tensor:
        """The parameters ``[T * B, P]`` of whole episodes ``[T, B, ...]``, each from its beginning.

        What a step remembers does not depend on later ones, so that padding after an episode's end changes nothing.
        """
        assert self.memory is not None
        steps, episodes = tf.shape(observation)[0], tf.shape(observation)[1]
        flat = tf.reshape(observation, [-1, *self.spec.layout.shape])
        features = self._body(flat, training=True)
        recalled = self.memory.episodes(tf.reshape(features, [steps, episodes, features.shape[-1]]))
        parameters = self._head(tf.reshape(recalled, [-1, recalled.shape[-1]]), training=True)
        return self._masked(parameters, flat)

    def sample(
        self,
        observation: tf.Tensor,
        noise: tf.Tensor,
        state: tf.Tensor | None = None,
        weights: Sequence[tf.Tensor] | None = None,
    ) -> dict[str, tf.Tensor]:
        """The act graph for collecting: ``sample``, which is stored, ``action``, which is played, ``next_state``."""
        parameters, after = self.step(observation, state, weights)
        sample = self.distribution.sample(parameters, noise)
        return {"sample": sample, "action": self.distribution.action(sample), **_next(after)}

    def greedy(
        self,
        observation: tf.Tensor,
        noise: tf.Tensor,
        state: tf.Tensor | None = None,
        weights: Sequence[tf.Tensor] | None = None,
    ) -> dict[str, tf.Tensor]:
        """As :meth:`sample`, with the distribution's mode in place of a sample."""
        parameters, after = self.step(observation, state, weights)
        mode = self.distribution.mode(parameters)
        return {"sample": mode, "action": self.distribution.action(mode), **_next(after)}

    def distribution_of(
        self, observation: tf.Tensor, state: tf.Tensor | None = None, weights: Sequence[tf.Tensor] | None = None
    ) -> dict[str, tf.Tensor]:
        """The distribution: its ``entropy`` ``[B]``, its mode as ``greedy_action``, and its parameters by name."""
        parameters, after = self.step(observation, state, weights)
        return {**self._describe(parameters), **_next(after)}

    def act(
        self,
        observation: tf.Tensor,
        noise: tf.Tensor,
        state: tf.Tensor | None = None,
        weights: Sequence[tf.Tensor] | None = None,
    ) -> dict[str, tf.Tensor]:
        """The act graph: ``action``, its ``log_prob`` ``[B]``, and all that :meth:`distribution_of` gives."""
        parameters, after = self.step(observation, state, weights)
        sample = self.distribution.sample(parameters, noise)
        return {
            "action": self.distribution.action(sample),
            "log_prob": self.distribution.log_prob(parameters, sample),
            **self._describe(parameters),
            **_next(after),
        }

    def _describe(self, parameters: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            "greedy_action": self.distribution.action(self.distribution.mode(parameters)),
            "entropy": self.distribution.entropy(parameters),
            **self.distribution.named_parameters(parameters),
        }

    def _masked(self, parameters: tf.Tensor, observation: tf.Tensor) -> tf.Tensor:
        size = self.spec.mask_size
        return distributions.masked(parameters, observation[:, -size:]) if size else parameters


def _next(state: tf.Tensor | None) -> dict[str, tf.Tensor]:
    return {} if state is None else {"next_state": state}


def _head(features: Any, distribution: distributions.Distribution, initial_log_std: float, seed: int) -> Any:
    free = distribution.state_independent_size
    parameters = keras.layers.Dense(
        distribution.parameter_size - free,
        kernel_initializer=networks.orthogonal(_HEAD_GAIN, seed),
        name="head",
    )(features)
    return networks.StateIndependent(free, initial_log_std, name="log_std")(parameters) if free else parameters
