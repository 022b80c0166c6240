"""Policy: a network and a distribution, and the act graph made of the two."""

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

# Small enough that a fresh policy's actions are nearly equally likely (or have nearly the same mean) in every state.
_HEAD_GAIN = 0.01
_DEFAULTS = NetworkSettings()


class Policy:
    """P(action | observation): a network that puts out the parameters of a distribution over actions.

    Every method is a pure function of its arguments and the network's weights, which can be arguments too. Observations
    are rows as ``spec.layout`` lays them out, with the action mask in them where there is one. A policy with memory
    takes a state ``[B, spec.state_size]`` beside them, zeros at the start of an episode, and gives the next.

    Args:
        observation_space: What the policy observes.
        action_space: What it does.
        network: From observations to features ``[B, F]``; a layer from those to the distribution's parameters is added.
            See :func:`pgkeras.policy.networks.body`, by default made for the space.
        settings: What that network, the memory and the distribution are like.
        mask_size: Length of the action masks that it takes, 0 for none.
        seed: Seed of the initial weights.

    Attributes:
        spec: What it observes and does, its distribution and the length of its state.
        distribution: The family of its distribution.
        model: Its network, for one step.
        normalization: Normalises observations in the network, by statistics that the caller keeps; None for none.
        architecture: A description of network and distribution, for people.

    Raises:
        UnsupportedSpaceError: No network or distribution handles one of the spaces, or the given network does not
            fit the observation space.
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
            # It is called with the observation, and may well normalise that itself.
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
        normalises = ", layers normalised" if network is None and settings.layer_normalization else ""
        self.architecture = described + normalises + remembers

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
        return [v.value for v in weights_of(self.model)]

    @property
    def names(self) -> list[str]:
        """Keras' paths of the :attr:`variables`, such as "hidden_0/kernel"."""
        return [v.path for v in weights_of(self.model)]

    def example_sample(self) -> tf.Tensor:
        """A sample ``[1, ...]`` of the distribution, for its shape and its dtype."""
        size = self.distribution.parameter_size
        return self.distribution.sample(tf.zeros([1, size]), tf.zeros([1, self.spec.noise_size]))

    def weights(self) -> list[NDArray[Any]]:
        """The values of :attr:`variables`."""
        return [v.numpy() for v in self.variables]

    def assign(self, weights: Sequence[NDArray[Any]]) -> None:
        """Sets the values of :attr:`variables`."""
        for variable, weight in zip(self.variables, weights, strict=True):
            variable.assign(weight)

    @contextmanager
    def with_weights(self, weights: Sequence[NDArray[Any]]) -> Iterator[None]:
        """Sets other values of :attr:`variables` for the duration of the block."""
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
        parameters, after = self._forward.step(observation, state, weights)
        return self._masked(parameters, observation), after

    def parameters(self, observation: tf.Tensor) -> tf.Tensor:
        """The distribution's parameters ``[N, P]`` for observations ``[N, ...]``, of a policy without memory."""
        return self.step(observation)[0]

    @property
    def batch_axes(self) -> int:
        """Leading axes of a batch for training: 1, steps ``[N, ...]``, or with memory 2, episodes ``[T, B, ...]``."""
        return self._forward.axes

    def batch(self, array: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[Any]:
        """Selects from an array of whole episodes what a batch for training holds.

        Args:
            array: ``[T, B, ...]``.
            mask: ``[T, B]``: which steps are real.

        Returns:
            The real steps ``[N, ...]``, or with memory all of it, since episodes are computed from their beginning.
        """
        return self._forward.batch(array, mask)

    def unroll(self, observation: tf.Tensor) -> tf.Tensor:
        """For training: the parameters ``[N, P]`` of all steps of a :meth:`batch`, a row for each step."""
        return self._masked(self._forward.unroll(observation), self._forward.flat(observation))

    def flat(self, array: tf.Tensor) -> tf.Tensor:
        """An array of a :meth:`batch` with one row per step, as :meth:`unroll` returns the parameters: ``[N, ...]``."""
        return self._forward.flat(array)

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
        size = self.spec.mask_size  # AutoGraph, which traces this in a caller's own tf.function, knows no :=
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
