"""The LiteRT engine: runs the act graph in a few microseconds per call on a CPU, without TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.errors import EngineError, MissingExtraError

__all__ = ["LiteRTEngine"]


@dataclass(frozen=True)
class _Prepared:
    """An interpreter whose tensors are allocated for one batch size."""

    interpreter: Any
    inputs: dict[str, int]
    outputs: dict[str, int]


class LiteRTEngine:
    """An engine with one LiteRT interpreter per batch size.

    Batch sizes are powers of two; other batches are padded.

    Args:
        flatbuffer: The serialized graph. Inputs other than ``observation``, ``noise`` and ``state`` are weights, named
            ``w0`` to ``wn``. They are set by :meth:`set_weights` and keep their values between calls.
        threads: Maximum number of threads per call.
        outputs: Names of the outputs in order, for a flatbuffer without a signature.

    Raises:
        EngineError: LiteRT cannot run the flatbuffer.
        MissingExtraError: LiteRT is not installed.
    """

    name = "litert"

    def __init__(self, flatbuffer: bytes, threads: int = 1, outputs: Sequence[str] = ()) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingExtraError("ai-edge-litert", "serve", "run policies with LiteRT") from error
        self._flatbuffer, self._threads, self._outputs = flatbuffer, threads, outputs
        self._new_interpreter: Any = lambda: Interpreter(model_content=flatbuffer, num_threads=threads)
        self._prepared: dict[int, _Prepared] = {}
        self._weights: Sequence[NDArray[Any]] = ()
        self._prepare(1)

    def set_weights(self, weights: Sequence[NDArray[Any]]) -> None:
        """Sets the weight inputs ``w0`` to ``wn`` for later calls."""
        self._weights = weights
        for prepared in self._prepared.values():
            _set_weights(prepared, weights)

    def act(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Collection[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Evaluates the graph on a batch; see :class:`pgkeras.engines.Engine`."""
        rows = len(inputs["noise"])
        size = 1 << (rows - 1).bit_length()
        prepared = self._prepared.get(size) or self._prepare(size)
        interpreter = prepared.interpreter
        for name, array in inputs.items():
            interpreter.set_tensor(prepared.inputs[name], array if rows == size else _pad(array, size))
        interpreter.invoke()
        indices, get = prepared.outputs, interpreter.get_tensor
        if rows == size:
            return {name: get(indices[name]) for name in outputs or indices}
        return {name: get(indices[name])[:rows] for name in outputs or indices}

    def release(self) -> None:
        """Frees all interpreters except the one for batches of 1 row; see :class:`pgkeras.engines.Engine`."""
        self._prepared = {1: self._prepared[1]}

    def copy(self) -> LiteRTEngine:
        """Returns an engine for the same graph with new interpreters; see :class:`pgkeras.engines.Engine`."""
        copy = LiteRTEngine(self._flatbuffer, self._threads, self._outputs)
        copy.set_weights(self._weights)
        return copy

    def bind(self, rows: int, inputs: Sequence[str], outputs: Sequence[str]) -> Callable[..., list[NDArray[Any]]]:
        """Returns a function that computes the named outputs from the named inputs, for one batch size.

        A call saves the 2 to 3 us that :meth:`act` takes in addition to the graph.
        """
        prepared = self._prepared.get(rows) or self._prepare(rows)
        set_tensor, get_tensor = prepared.interpreter.set_tensor, prepared.interpreter.get_tensor
        invoke = prepared.interpreter.invoke
        input_indices = [prepared.inputs[name] for name in inputs]
        output_indices = [prepared.outputs[name] for name in outputs]

        def call(*arrays: NDArray[Any]) -> list[NDArray[Any]]:
            for index, array in zip(input_indices, arrays, strict=True):
                set_tensor(index, array)
            invoke()
            return [get_tensor(index) for index in output_indices]

        return call

    def _prepare(self, size: int) -> _Prepared:
        try:
            interpreter = self._new_interpreter()
            details, results = self._details(interpreter)
            inputs = {name: int(detail["index"]) for name, detail in details.items()}
            outputs = {name: int(detail["index"]) for name, detail in results.items()}
            for name, detail in details.items():
                if name in _ROWS:
                    interpreter.resize_tensor_input(inputs[name], [size, *detail["shape"][1:]])
            interpreter.allocate_tensors()
            for name, detail in details.items():
                shape = [size, *detail["shape"][1:]] if name in _ROWS else detail["shape"]
                interpreter.set_tensor(inputs[name], np.zeros(shape, detail["dtype"]))
            interpreter.invoke()  # for some unsupported graphs, this is the first call that fails
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"LiteRT cannot run this policy: {error}") from error
        self._prepared[size] = prepared = _Prepared(interpreter, inputs, outputs)
        _set_weights(prepared, self._weights)
        return prepared

    def _details(self, interpreter: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the interpreter's details of its inputs and outputs, by name."""
        if self._outputs:
            inputs = {detail["name"]: detail for detail in interpreter.get_input_details()}
            return inputs, dict(zip(self._outputs, interpreter.get_output_details(), strict=True))
        runner = interpreter.get_signature_runner()  # not stored, because it refers to the interpreter's memory
        return runner.get_input_details(), runner.get_output_details()


_ROWS = ("observation", "noise", "state")


def _set_weights(prepared: _Prepared, weights: Sequence[NDArray[Any]]) -> None:
    for i, weight in enumerate(weights):
        prepared.interpreter.set_tensor(prepared.inputs[f"w{i}"], weight)


def _pad(array: NDArray[Any], size: int) -> NDArray[Any]:
    padded = np.zeros((size, *array.shape[1:]), array.dtype)
    padded[: len(array)] = array
    return padded
