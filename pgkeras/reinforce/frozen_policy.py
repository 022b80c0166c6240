"""The acting engine of the policy in training; its weights are frozen while episodes are played."""

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
    """Acts by a policy with the weights that it had at the last :meth:`freeze`.

    With LiteRT the weights are inputs of the flatbuffer, so that it is converted once per run. A call takes a few
    microseconds there, against about half a millisecond for a ``tf.function``.

    Args:
        policy: The policy.
        engine: "litert", "tensorflow", or "auto" for LiteRT where the policy converts and has no large convolutions.
        mode: "sample" to draw actions, "greedy" for the most probable ones.

    Attributes:
        graph: What another process acts by, with the weights; None where TensorFlow computes.
        weights: The weights at the last freeze, likewise; empty where TensorFlow computes.

    Raises:
        EngineError: LiteRT was asked for and cannot run the policy.
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
            self._sampler = self._by_tensorflow() if in_tensorflow else self._by_litert()
        except (EngineError, MissingExtraError) as error:
            if engine == "litert":
                raise
            logger.warning("acting through TensorFlow, since %s", error)
            self._sampler = self._by_tensorflow()
        self.freeze()

    @property
    def engine(self) -> str:
        """Name of the engine."""
        return TensorFlowEngine.name if self._litert is None else LiteRTEngine.name

    def freeze(self, weights: Sequence[NDArray[Any]] | None = None) -> None:
        """Copies the policy's current weights; a caller that has them may pass them."""
        if self._litert is not None:
            self.weights = self._policy.weights() if weights is None else weights
            self._litert.set_weights(self.weights)

    def act(self, observation: NDArray[Any], noise: NDArray[np.float32], state: NDArray[Any] | None = None) -> Choice:
        """See :meth:`pgkeras.environments.collect.Actor.act`."""
        return self._sampler.act(observation, noise, state)

    def _outputs(self) -> tuple[str, ...]:
        outputs = ("sample", "action") if self._policy.distribution.transforms else ("sample",)
        return (*outputs, "next_state") if self.spec.state_size else outputs

    def _by_litert(self) -> Sampler:
        policy = self._policy
        specs = [tf.TensorSpec(v.shape, v.dtype, f"w{i}") for i, v in enumerate(policy.variables)]
        names = self._outputs()

        def sample(**inputs: tf.Tensor) -> list[tf.Tensor]:
            weights = [inputs.pop(spec.name) for spec in specs]
            answer = self._graph(**inputs, weights=weights)
            return [answer[name] for name in names]

        function = tf.function(sample, autograph=False).get_concrete_function(
            **policy.input_signature(), **{spec.name: spec for spec in specs}
        )
        flatbuffer = convert(function, None)
        self.graph = SamplingGraph(self.spec, flatbuffer, tuple(policy.input_signature()), names)
        sampler, self._litert = Sampler.of(self.graph)
        return sampler

    def _by_tensorflow(self) -> Sampler:
        # It reads the variables themselves, which do not change while episodes are played.
        signature = self._policy.input_signature()
        engine = TensorFlowEngine(tf.function(self._graph, list(signature.values()), autograph=False))
        names = self._outputs()

        def call(*arrays: NDArray[Any]) -> list[NDArray[Any]]:
            answer = engine.act(dict(zip(signature, arrays, strict=True)))
            return [answer[name] for name in names]

        return Sampler(self.spec, lambda rows: call)


def _is_convolutional(policy: Policy) -> bool:
    """Whether TensorFlow is faster: LiteRT computes convolutions fast only where their weights are constants."""
    return sum(_multiplications(layer) for layer in layers(policy.model)) > _MOST_CONVOLVED


def layers(model: Any) -> Iterator[Any]:
    """All layers of a Keras model, and those of models within it."""
    for layer in getattr(model, "layers", ()):
        yield layer
        yield from layers(layer)


def _multiplications(layer: Any) -> int:
    """Of a convolution over images, for one of them; 0 of other layers."""
    kernel = getattr(layer, "kernel", None)
    if kernel is None or len(kernel.shape) != _KERNEL_AXES:
        return 0
    try:
        positions = math.prod(layer.output.shape[1:]) // kernel.shape[-1]
    except AttributeError:  # a layer of a model that is no graph of layers does not know what it puts out
        positions = _UNKNOWN_POSITIONS
    return int(math.prod(kernel.shape) * positions)


_KERNEL_AXES = 4
_UNKNOWN_POSITIONS = 100
# Between networks of which LiteRT is faster for 32 images (the light CNN on 42 by 42 pixels, 0.4 million: 1.4 ms and by
# TensorFlow 1.9; the Nature CNN there, 0.7 million: 1.7 and 1.9) and of which TensorFlow is (the light CNN on 84 by 84,
# 1.5 million: 5.9 and 4.3; the Nature CNN there, 7.7 million: 40 and 9).
_MOST_CONVOLVED = 1_000_000
