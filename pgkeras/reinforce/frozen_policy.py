"""The acting engine of the policy in training. Its weights are frozen while episodes are played."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.backend import tf
from pgkeras.engines.litert import LiteRTEngine
from pgkeras.engines.sampling import Sampler, SamplingGraph
from pgkeras.engines.tensorflow import TensorFlowEngine
from pgkeras.environments.collect import Choice
from pgkeras.errors import EngineError, MissingExtraError
from pgkeras.policy.export import convert
from pgkeras.policy.policy import Policy

__all__ = ["FrozenPolicy", "layers"]

logger = logging.getLogger(__name__)


class FrozenPolicy:
    """A policy for acting, with the weights from the last :meth:`freeze`.

    The LiteRT flatbuffer takes the weights as inputs, so the policy is converted once per run. A call takes a few
    microseconds, compared with about half a millisecond for a ``tf.function``.

    Args:
        policy: The policy.
        engine: "litert", "tensorflow" or "auto". "auto" selects LiteRT if the policy can be converted and has no large
            convolutions.
        mode: "sample" for sampled actions, "greedy" for the most probable ones.

    Attributes:
        graph: The graph with which another process can act; None with the TensorFlow engine.
        weights: The weights at the last freeze, the inputs of ``graph``; empty with the TensorFlow engine.

    Raises:
        EngineError: ``engine`` is "litert", and LiteRT cannot run the policy.
    """

    def __init__(self, policy: Policy, engine: str = "auto", mode: str = "sample") -> None:
        self.spec = policy.spec
        self.graph: SamplingGraph | None = None
        self.weights: Sequence[NDArray[Any]] = ()
        self._policy = policy
        self._graph = policy.greedy if mode == "greedy" else policy.sample
        self._litert: LiteRTEngine | None = None
        try:
            in_tensorflow = engine == "tensorflow" or (engine == "auto" and _is_convolutional(policy))
            self._sampler = self._tensorflow_sampler() if in_tensorflow else self._litert_sampler()
        except (EngineError, MissingExtraError) as error:
            if engine == "litert":
                raise
            logger.warning("acting with the TensorFlow engine: %s", error)
            self._sampler = self._tensorflow_sampler()
        self.freeze()

    @property
    def engine(self) -> str:
        """Name of the engine."""
        return TensorFlowEngine.name if self._litert is None else LiteRTEngine.name

    def freeze(self, weights: Sequence[NDArray[Any]] | None = None) -> None:
        """Copies the policy's current weights. A caller may pass them to save reading the variables."""
        if self._litert is not None:
            self.weights = self._policy.weights() if weights is None else weights
            self._litert.set_weights(self.weights)

    def act(self, observation: NDArray[Any], noise: NDArray[np.float32], state: NDArray[Any] | None = None) -> Choice:
        """See :meth:`pgkeras.environments.collect.Actor.act`."""
        return self._sampler.act(observation, noise, state)

    def _outputs(self) -> tuple[str, ...]:
        outputs = ("sample", "action") if self._policy.distribution.transforms else ("sample",)
        return (*outputs, "next_state") if self.spec.state_size else outputs

    def _litert_sampler(self) -> Sampler:
        policy = self._policy
        specs = [tf.TensorSpec(v.shape, v.dtype, f"w{i}") for i, v in enumerate(policy.variables)]
        names = self._outputs()

        def sample(**inputs: tf.Tensor) -> list[tf.Tensor]:
            weights = [inputs.pop(spec.name) for spec in specs]
            outputs = self._graph(**inputs, weights=weights)
            return [outputs[name] for name in names]

        function = tf.function(sample, autograph=False).get_concrete_function(
            **policy.input_signature(), **{spec.name: spec for spec in specs}
        )
        flatbuffer = convert(function, None)
        self.graph = SamplingGraph(self.spec, flatbuffer, tuple(policy.input_signature()), names)
        sampler, self._litert = Sampler.of(self.graph)
        return sampler

    def _tensorflow_sampler(self) -> Sampler:
        # This engine reads the policy's variables directly, because they do not change while episodes are played.
        signature = self._policy.input_signature()
        engine = TensorFlowEngine(tf.function(self._graph, list(signature.values()), autograph=False))
        names = self._outputs()

        def call(*arrays: NDArray[Any]) -> list[NDArray[Any]]:
            outputs = engine.act(dict(zip(signature, arrays, strict=True)))
            return [outputs[name] for name in names]

        return Sampler(self.spec, lambda rows: call)


def _is_convolutional(policy: Policy) -> bool:
    """Returns whether TensorFlow is faster than LiteRT, whose convolutions are fast only with constant weights."""
    return sum(_multiplications(layer) for layer in layers(policy.model)) > _MAX_MULTIPLICATIONS


def layers(model: Any) -> Iterator[Any]:
    """Yields all layers of a Keras model, including those of nested models."""
    for layer in getattr(model, "layers", ()):
        yield layer
        yield from layers(layer)


def _multiplications(layer: Any) -> int:
    """Returns the number of multiplications of a 2D convolution for one image; 0 for other layers."""
    kernel = getattr(layer, "kernel", None)
    if kernel is None or len(kernel.shape) != _KERNEL_AXES:
        return 0
    try:
        positions = math.prod(layer.output.shape[1:]) // kernel.shape[-1]
    except AttributeError:  # layers of subclassed models have no symbolic output
        positions = _UNKNOWN_POSITIONS
    return int(math.prod(kernel.shape) * positions)


_KERNEL_AXES = 4
_UNKNOWN_POSITIONS = 100
# Measured for batches of 32 images (network, pixels, multiplications per image: LiteRT, TensorFlow):
#   light CNN, 42x42, 0.4 million: 1.4 ms, 1.9 ms
#   Nature CNN, 42x42, 0.7 million: 1.7 ms, 1.9 ms
#   light CNN, 84x84, 1.5 million: 5.9 ms, 4.3 ms
#   Nature CNN, 84x84, 7.7 million: 40 ms, 9 ms
_MAX_MULTIPLICATIONS = 1_000_000
