"""Engines compute a policy's act graph: LiteRT on CPUs, TensorFlow on GPUs and where LiteRT does not work."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from pgkeras.bundle.bundle import Bundle
from pgkeras.errors import EngineError, MissingExtraError

__all__ = ["Engine", "EngineName", "load"]

EngineName = Literal["auto", "litert", "tensorflow"]

logger = logging.getLogger(__name__)


class Engine(Protocol):
    """The interface of an engine. Engines are not thread-safe."""

    @property
    def name(self) -> str:
        """Name of the engine: "litert" or "tensorflow"."""

    def act(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Collection[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Evaluates the graph on a batch.

        Args:
            inputs: ``observation``, ``[B, *spec.layout.shape]``; ``noise``, float32 ``[B, spec.noise_size]``; and for a
                policy with memory ``state``, float32 ``[B, spec.state_size]``.
            outputs: Names of the outputs to return; None for all.

        Returns:
            ``action``, ``greedy_action``, ``log_prob`` ``[B]``, ``entropy`` ``[B]``, the distribution's parameters and,
            for a policy with memory, ``next_state``.
        """

    def release(self) -> None:
        """Frees the memory allocated for batches. The next batch of each size allocates it again."""

    def copy(self) -> Engine:
        """Returns an engine for the same policy that another thread can use at the same time. Callable at any time."""


def load(bundle: Bundle, engine: EngineName = "auto") -> Engine:
    """Loads a bundle's act graph.

    Args:
        bundle: The policy.
        engine: "litert", "tensorflow" or "auto". "auto" selects LiteRT if the bundle has a flatbuffer and LiteRT is
            installed, else TensorFlow.

    Raises:
        EngineError: The engine cannot load the graph, or ``engine`` is "litert" and the bundle has no flatbuffer.
        MissingExtraError: The engine is not installed.
    """
    if engine == "litert" and bundle.flatbuffer is None:
        raise EngineError(f"{bundle.path}: has no LiteRT flatbuffer; use --engine tensorflow")
    without_litert: MissingExtraError | None = None
    if engine != "tensorflow" and bundle.flatbuffer is not None:
        try:
            from pgkeras.engines.litert import LiteRTEngine

            return LiteRTEngine(bundle.flatbuffer.read_bytes())
        except MissingExtraError as error:
            if engine == "litert":
                raise
            without_litert = error
            logger.warning("%s: falling back to the TensorFlow engine: %s", bundle.path, error)
    elif engine == "auto":
        logger.warning("%s: has no LiteRT flatbuffer: using the TensorFlow engine", bundle.path)
    from pgkeras.engines.tensorflow import TensorFlowEngine

    try:
        return TensorFlowEngine.from_saved_model(bundle.path)
    except MissingExtraError as error:
        raise without_litert or error from None  # recommends installing LiteRT, which is smaller than TensorFlow
