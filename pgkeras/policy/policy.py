"""Policy: a network and a distribution, and the act graph built from both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.backend import keras, tf
from pgkeras.policy import distributions, networks
from pgkeras.policy.forward import Feedforward, ForwardPass, Recurrent, weights_of
from pgkeras.policy.memory import Memory
from pgkeras.settings.groups import NetworkSettings, RunSettings
from pgkeras.spaces import ActionSpace, Space
from pgkeras.spaces.spec import PolicySpec

__all__ = ["Policy"]

# Small, so that all actions of a new policy are nearly equally probable (or have nearly the same mean) in every state.
_HEAD_GAIN = 0.01
_DEFAULTS = NetworkSettings()


class Policy:
    """P(action | observation): a network that computes the parameters of a distribution over actions.

    The methods that compute are pure functions of their arguments and the network's weights, which can be passed as an
    argument. Observations are rows in the form of ``spec.layout``, which includes the action mask if there is one. A
    policy with memory also takes a state ``[B, spec.state_size]``, zeros at the start of an episode, and returns the
    next state.

    Args:
        observation_space: The space of observations.
        action_space: The space of actions.
        network: A Keras model from observations to features ``[B, F]``, see :func:`pgkeras.policy.networks.body`. The
            policy adds a layer from features to the distribution's parameters. None builds a network for the space.
        settings: Settings of the network, the memory and the distribution.
        mask_size: Length of the action masks; 0 without masks.
        seed: Seed of the initial weights.

    Attributes:
        spec: The spaces, the kind of distribution and the length of the state.
        distribution: The distribution of actions.
        model: The network, for one step.
        normalization: The layer that normalizes observations, with statistics that the caller updates; None without
            normalization.
        architecture: A human-readable description of the network.

    Raises:
        UnsupportedSpaceError: No network or distribution supports one of the spaces, or the given network does not fit
            the observation space.
    """

    def __init__(
        self,
        observation_space: Space,
        action_space: ActionSpace,
        network: keras.Model | None = None,
        *,
        settings: NetworkSettings = _DEFAULTS,
        mask_size: int = 0,
        seed: int = RunSettings.seed,
    ) -> None:
        self.distribution = distributions.for_action_space(action_space, settings.distribution)
        memory = None if settings.memory == "none" else Memory(settings.memory, settings.memory_units, seed + 500)
        state_size = 0 if memory is None else memory.state_size
        chosen = self.distribution
        kinds = tuple(part.kind for part in chosen.parts) if isinstance(chosen, distributions.Structured) else ()
        self.spec = PolicySpec(observation_space, action_space, chosen.kind, state_size, mask_size, kinds)
        layout = self.spec.layout
        if network is not None and settings.normalize_observations is None:
            # A user's network gets unmodified observations, because it may normalize them itself.
            settings = replace(settings, normalize_observations=False)
        self.normalization = networks.normalization_for(layout, settings)
        body = networks.body(layout, settings, self.normalization, seed, network)
        features = keras.Input(body.output_shape[1:] if memory is None else [settings.memory_units])
        head = keras.Model(features, _head(features, self.distribution, settings.initial_log_std, seed + 1000))
        self._forward: ForwardPass = (
            Feedforward(layout, body, head) if memory is None else Recurrent(layout, body, memory, head)
        )
        self.model = self._forward.model
        described = networks.describe(layout, settings) if network is None else f"network {network.name!r}"
        remembers = "" if memory is None else f", {settings.memory.upper()} {settings.memory_units}"
        normalizes = ", layer normalization" if network is None and settings.layer_normalization else ""
        self.architecture = described + normalizes + remembers

    def input_signature(self) -> dict[str, tf.TensorSpec]:
        """Returns the act graph's inputs by name: observations, noise and, with memory, states."""
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
        """All weights: the trainable ones, then the others. ``weights`` arguments have the same order."""
        return [v.value for v in weights_of(self.model)]

    @property
    def names(self) -> list[str]:
        """Keras paths of the :attr:`variables`, such as "hidden_0/kernel"."""
        return [v.path for v in weights_of(self.model)]

    def example_sample(self) -> tf.Tensor:
        """Returns a sample ``[1, ...]`` of the distribution, for its shape and dtype."""
        size = self.distribution.parameter_size
        return self.distribution.sample(tf.zeros([1, size]), tf.zeros([1, self.spec.noise_size]))

    def weights(self) -> list[NDArray[Any]]:
        """Returns the values of :attr:`variables`."""
        return [v.numpy() for v in self.variables]

    def assign(self, weights: Sequence[NDArray[Any]]) -> None:
        """Sets the values of :attr:`variables`."""
        for variable, weight in zip(self.variables, weights, strict=True):
            variable.assign(weight)

    @contextmanager
    def with_weights(self, weights: Sequence[NDArray[Any]]) -> Iterator[None]:
        """Returns a context in which :attr:`variables` have other values."""
        saved = self.weights()
        try:
            self.assign(weights)
            yield
        finally:
            self.assign(saved)

    def step(
        self,
        observation: tf.Tensor,
        state: tf.Tensor | None = None,
        weights: Sequence[tf.Tensor] | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Returns the distribution's parameters ``[B, P]`` for one step, and the next state.

        Args:
            observation: ``[B, ...]``.
            state: ``[B, state_size]`` for a policy with memory.
            weights: Values of :attr:`variables` to compute with; None for the current ones.
        """
        parameters, next_state = self._forward.step(observation, state, weights)
        return self._masked(parameters, observation), next_state

    def parameters(self, observation: tf.Tensor) -> tf.Tensor:
        """Returns the parameters ``[N, P]`` for observations ``[N, ...]``, for a policy without memory."""
        return self.step(observation)[0]

    @property
    def batch_axes(self) -> int:
        """Number of leading axes of a training batch: 1 for steps ``[N, ...]``, 2 with memory ``[T, B, ...]``."""
        return self._forward.axes

    def batch(self, array: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[Any]:
        """Converts an array of whole episodes to a training batch.

        Args:
            array: ``[T, B, ...]``.
            mask: ``[T, B]``, true for real steps.

        Returns:
            The real steps ``[N, ...]``; with memory all steps ``[T, B, ...]``, because the memory needs whole episodes.
        """
        return self._forward.batch(array, mask)

    def unroll(self, observation: tf.Tensor) -> tf.Tensor:
        """Returns the parameters ``[N, P]`` of all steps of a training :meth:`batch`, one row per step."""
        return self._masked(self._forward.unroll(observation), self._forward.flat(observation))

    def flat(self, array: tf.Tensor) -> tf.Tensor:
        """Reshapes an array of a :meth:`batch` to one row per step, ``[N, ...]``, like the result of :meth:`unroll`."""
        return self._forward.flat(array)

    def sample(
        self,
        observation: tf.Tensor,
        noise: tf.Tensor,
        state: tf.Tensor | None = None,
        weights: Sequence[tf.Tensor] | None = None,
    ) -> dict[str, tf.Tensor]:
        """The act graph for collecting.

        Returns:
            ``sample``, which is stored for training; ``action``, for the environment; and ``next_state`` with memory.
        """
        parameters, next_state = self.step(observation, state, weights)
        sample = self.distribution.sample(parameters, noise)
        return {"sample": sample, "action": self.distribution.action(sample), **_next(next_state)}

    def greedy(
        self,
        observation: tf.Tensor,
        noise: tf.Tensor,
        state: tf.Tensor | None = None,
        weights: Sequence[tf.Tensor] | None = None,
    ) -> dict[str, tf.Tensor]:
        """Like :meth:`sample`, with the distribution's mode instead of a sample."""
        parameters, next_state = self.step(observation, state, weights)
        mode = self.distribution.mode(parameters)
        return {"sample": mode, "action": self.distribution.action(mode), **_next(next_state)}

    def distribution_of(
        self, observation: tf.Tensor, state: tf.Tensor | None = None, weights: Sequence[tf.Tensor] | None = None
    ) -> dict[str, tf.Tensor]:
        """Returns the distribution's ``entropy`` ``[B]``, its mode as ``greedy_action``, and its named parameters."""
        parameters, next_state = self.step(observation, state, weights)
        return {**self._describe(parameters), **_next(next_state)}

    def act(
        self,
        observation: tf.Tensor,
        noise: tf.Tensor,
        state: tf.Tensor | None = None,
        weights: Sequence[tf.Tensor] | None = None,
    ) -> dict[str, tf.Tensor]:
        """The act graph: returns ``action``, its ``log_prob`` ``[B]``, and the outputs of :meth:`distribution_of`."""
        parameters, next_state = self.step(observation, state, weights)
        sample = self.distribution.sample(parameters, noise)
        return {
            "action": self.distribution.action(sample),
            "log_prob": self.distribution.log_prob(parameters, sample),
            **self._describe(parameters),
            **_next(next_state),
        }

    def _describe(self, parameters: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            "greedy_action": self.distribution.action(self.distribution.mode(parameters)),
            "entropy": self.distribution.entropy(parameters),
            **self.distribution.named_parameters(parameters),
        }

    def _masked(self, parameters: tf.Tensor, observation: tf.Tensor) -> tf.Tensor:
        size = self.spec.mask_size  # no :=, because AutoGraph does not support it and may trace this method
        if not size:
            return parameters
        mask = observation[:, -size:]
        if isinstance(self.distribution, distributions.Structured):
            return self.distribution.masked(parameters, mask)
        return distributions.masked(parameters, mask)


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
