"""Sampling graphs: policies as plain data, with the weights as inputs, which can act in any process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.engines.litert import LiteRTEngine
from pgkeras.engines.state import or_zeros
from pgkeras.spaces.spec import PolicySpec

__all__ = ["Sampler", "SamplingGraph"]

Call = Callable[..., Sequence[NDArray[Any]]]


@dataclass(frozen=True)
class SamplingGraph:
    """A sampling graph for LiteRT.

    Args:
        spec: The policy's spec.
        flatbuffer: The graph, without a signature. The weights are inputs, ``w0`` to ``wn``.
        inputs: Names of the other inputs: observation, noise and, with memory, state.
        outputs: Names of the outputs in order: the sample, the action if it differs from the sample, and the next
            state if the policy has memory.
    """

    spec: PolicySpec
    flatbuffer: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Sampler:
    """An :class:`pgkeras.environments.collect.Actor` that uses a sampling graph.

    Args:
        spec: The policy's spec.
        bind: Returns, for a batch size, a function from the graph's inputs to its outputs.
    """

    def __init__(self, spec: PolicySpec, bind: Callable[[int], Call]) -> None:
        self.spec = spec
        self._bind = bind
        self._bound: dict[int, Call] = {}  # by batch size

    @classmethod
    def of(cls, graph: SamplingGraph) -> tuple[Sampler, LiteRTEngine]:
        """Returns a sampler and its LiteRT engine. The caller must set the engine's weights before the first call.

        Raises:
            EngineError: LiteRT cannot run the graph.
        """
        engine = LiteRTEngine(graph.flatbuffer, outputs=graph.outputs)
        return cls(graph.spec, lambda rows: engine.bind(rows, graph.inputs, graph.outputs)), engine

    def act(
        self, observation: NDArray[Any], noise: NDArray[np.float32], state: NDArray[Any] | None = None
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
        """See :meth:`pgkeras.environments.collect.Actor.act`."""
        rows = len(noise)
        call = self._bound.get(rows)
        if call is None:
            call = self._bound[rows] = self._bind(rows)
        if not self.spec.state_size:
            outputs = call(observation, noise)
            return outputs[0], outputs[-1], None
        *outputs, state = call(observation, noise, or_zeros(state, rows, self.spec.state_size))
        return outputs[0], outputs[-1], state
