"""The acting engine of the policy in training; its weights are frozen while episodes are played."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.backend import tf
from pgkeras.engines.litert import LiteRTEngine
from pgkeras.engines.tensorflow import TensorFlowEngine
from pgkeras.environments.collect import Choice
from pgkeras.errors import EngineError, MissingExtraError
from pgkeras.policy.export import convert
from pgkeras.policy.policy import Policy

__all__ = ["FrozenPolicy"]

logger = logging.getLogger(__name__)


class FrozenPolicy:
    """Acts by a policy with the weights that it had at the last :meth:`freeze`.

    With LiteRT the weights are inputs of the flatbuffer, so that it is converted once per run. A call takes a few
    microseconds there, against about half a millisecond for a ``tf.function``.

    Args:
        policy: The policy.
        engine: "litert", "tensorflow", or "auto" for LiteRT where the policy converts and has no large convolutions.
        mode: "sample" to draw actions, "greedy" for the most probable ones.

    Raises:
        EngineError: LiteRT was asked for and cannot run the policy.
    """

    def __init__(self, policy: Policy, engine: str = "auto", mode: str = "sample") -> None:
        self.spec = policy.spec
        self._policy = policy
        self._graph = policy.greedy if mode == "greedy" else policy.sample
        self._engine: LiteRTEngine | TensorFlowEngine
        try:
            in_tensorflow = engine == "tensorflow" or (engine == "auto" and _is_convolutional(policy))
            self._engine = self._tensorflow() if in_tensorflow else self._litert()
        except (EngineError, MissingExtraError) as error:
            if engine == "litert":
                raise
            logger.warning("acting through TensorFlow, since %s", error)
            self._engine = self._tensorflow()
        self._bound: dict[int, Any] = {}  # by batch size
        self.freeze()

    @property
    def engine(self) -> str:
        """Name of the engine."""
        return self._engine.name

    def freeze(self, weights: Sequence[NDArray[Any]] | None = None) -> None:
        """Copies the policy's current weights; a caller that has them may pass them."""
        if isinstance(self._engine, LiteRTEngine):
            self._engine.set_weights(self._policy.weights() if weights is None else weights)

    def act(self, observation: NDArray[Any], noise: NDArray[np.float32], state: NDArray[Any] | None = None) -> Choice:
        """See :meth:`pgkeras.environments.collect.Actor.act`."""
        call = self._bound.get(len(noise)) or self._bind(len(noise))
        if not self.spec.state_size:
            outputs = call(observation, noise)
            return outputs[0], outputs[-1], None
        if state is None:
            state = np.zeros((len(noise), self.spec.state_size), np.float32)
        *outputs, state = call(observation, noise, state)
        return outputs[0], outputs[-1], state

    def _bind(self, rows: int) -> Callable[..., Sequence[NDArray[Any]]]:
        inputs = tuple(self._policy.input_signature())
        outputs = ("sample", "action") if self._policy.distribution.transforms else ("sample",)
        outputs = (*outputs, "next_state") if self.spec.state_size else outputs
        engine = self._engine
        if isinstance(engine, LiteRTEngine):
            bound: Callable[..., Sequence[NDArray[Any]]] = engine.bind(rows, inputs, outputs)
        else:

            def bound(*arrays: NDArray[Any]) -> Sequence[NDArray[Any]]:
                answer = engine.act(dict(zip(inputs, arrays, strict=True)))
                return [answer[name] for name in outputs]

        self._bound[rows] = bound
        return bound

    def _litert(self) -> LiteRTEngine:
        policy = self._policy
        specs = [tf.TensorSpec(v.shape, v.dtype, f"w{i}") for i, v in enumerate(policy.variables)]

        def sample(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            weights = [inputs.pop(spec.name) for spec in specs]
            return self._graph(**inputs, weights=weights)

        function = tf.function(sample, autograph=False).get_concrete_function(
            **policy.input_signature(), **{spec.name: spec for spec in specs}
        )
        return LiteRTEngine(convert(function, tf.Module()))

    def _tensorflow(self) -> TensorFlowEngine:
        # It reads the variables themselves, which do not change while episodes are played.
        signature = list(self._policy.input_signature().values())
        return TensorFlowEngine(tf.function(self._graph, signature, autograph=False))


def _is_convolutional(policy: Policy) -> bool:
    """Whether TensorFlow is faster: LiteRT computes convolutions fast only where their weights are constants."""
    kernels = [math.prod(v.shape) for v in policy.model.trainable_variables if len(v.shape) == _KERNEL_AXES]
    return bool(sum(kernels) > _MOST_CONVOLVED)


_KERNEL_AXES = 4
# Between MinAtar's CNN (a few hundred; LiteRT takes 0.2 ms for 32 images, TensorFlow 1.0) and the Nature CNN (78,000;
# LiteRT takes 17 ms for 32 images, TensorFlow 5): python -m benchmarks.acting.
_MOST_CONVOLVED = 10_000
