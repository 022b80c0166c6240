"""The sampling graph of a policy, with its weights as inputs: plain data that acts in any process."""

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
        spec: What the policy observes and does.
        flatbuffer: The graph, without a signature; its weights are inputs, ``w0`` to ``wn``.
        inputs: Names of the inputs but the weights: observation, noise and, with memory, state.
        outputs: Names of the outputs in their order: the sample, the action if it is another, and the next state, if
            there is one.
    """

    spec: PolicySpec
    flatbuffer: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Sampler:
    """Acts by a sampling graph; see :class:`pgkeras.environments.collect.Actor`.

    Args:
        spec: What the policy observes and does.
        bind: Makes a function of the graph's inputs for a batch size.
    """

    def __init__(self, spec: PolicySpec, bind: Callable[[int], Call]) -> None:
        self.spec = spec
        self._bind = bind
        self._bound: dict[int, Call] = {}  # by batch size

    @classmethod
    def of(cls, graph: SamplingGraph) -> tuple[Sampler, LiteRTEngine]:
        """One that LiteRT computes, and the engine, whose weights are to be set.

        Raises:
            EngineError: The graph is none that LiteRT runs.
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
