"""The TensorFlow engine, for GPUs and for policies that LiteRT cannot convert."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pgkeras.errors import EngineError, MissingExtraError

__all__ = ["TensorFlowEngine"]


class TensorFlowEngine:
    """An engine that runs the act graph as a TensorFlow function.

    Args:
        function: Takes the graph's inputs as keyword arguments and returns a dictionary of tensors.
        owner: The object that holds the function's variables. The engine keeps a reference to it, because the function
            does not keep the variables alive.
    """

    name = "tensorflow"

    def __init__(self, function: Callable[..., Mapping[str, Any]], owner: object = None) -> None:
        self._function = function
        self._owner = owner

    @classmethod
    def from_saved_model(cls, path: Path) -> TensorFlowEngine:
        """Loads the ``act`` signature of a SavedModel.

        Raises:
            EngineError: TensorFlow cannot load the SavedModel, or it has no such signature.
            MissingExtraError: TensorFlow is not installed.
        """
        try:
            from pgkeras.backend import tf
        except ImportError as error:
            raise MissingExtraError("tensorflow", "train", "run policies with the TensorFlow engine") from error
        try:
            model = tf.saved_model.load(str(path))
            signature = model.signatures["act"]
        except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
            raise EngineError(f"TensorFlow cannot load {path}: {error}") from error
        return cls(signature, model)

    def act(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Collection[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Evaluates the graph on a batch; see :class:`pgkeras.engines.Engine`."""
        from pgkeras.backend import tf

        tensors = self._function(**{name: tf.constant(array) for name, array in inputs.items()})
        return {name: tensor.numpy() for name, tensor in tensors.items() if outputs is None or name in outputs}

    def release(self) -> None:
        """Does nothing, because TensorFlow keeps no memory for batches."""

    def copy(self) -> TensorFlowEngine:
        """Returns this engine, because several threads can call a TensorFlow function at the same time."""
        return self
