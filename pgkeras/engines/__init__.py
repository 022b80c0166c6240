"""Engines: what computes a policy's act graph. LiteRT on a CPU; TensorFlow where LiteRT cannot go."""

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
    """Computes the act graph. Not safe for use by several threads at once."""

    @property
    def name(self) -> str:
        """Which engine it is: "litert" or "tensorflow"."""

    def act(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Collection[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Evaluates the graph on a batch.

        Args:
            inputs: ``observation``, rows as ``spec.layout`` lays them out; ``noise``, float32
                ``[B, spec.noise_size]``; and for a policy with memory ``state``, float32 ``[B, spec.state_size]``.
            outputs: Names of those that are wanted; None for all.

        Returns:
            ``action``, ``greedy_action``, ``log_prob`` ``[B]``, ``entropy`` ``[B]``, the distribution's parameters and,
            for a policy with memory, ``next_state``.
        """

    def release(self) -> None:
        """Frees the memory that batches have taken; the next batch of each size takes its own again."""

    def copy(self) -> Engine:
        """An engine for the same policy that another thread may use at the same time; callable at any time."""


def load(bundle: Bundle, engine: EngineName = "auto") -> Engine:
    """Loads a bundle's act graph.

    Args:
        bundle: The policy.
        engine: "auto" takes LiteRT when the bundle has a flatbuffer and LiteRT is installed, TensorFlow otherwise.

    Raises:
        EngineError: The bundle has no flatbuffer for "litert", or the engine refuses the graph.
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
        raise without_litert or error from None  # LiteRT is the smaller thing to install
