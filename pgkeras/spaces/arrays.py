"""Spaces whose values are arrays. Bounds are float64 arrays of the space's shape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.errors import InvalidRequestError, UnsupportedSpaceError

if TYPE_CHECKING:
    import gymnasium

__all__ = ["DTYPES", "ArraySpace", "Box", "Discrete", "MultiBinary", "MultiDiscrete", "from_gymnasium"]

DTYPES = tuple(
    np.dtype(name)
    for name in ("bool", "uint8", "int8", "uint16", "int16", "int32", "int64", "float16", "float32", "float64")
)
"""Element types of spaces, and of tensors in messages."""
_MAX_LISTED = 6  # bounds that are listed individually
_INT64: np.dtype[Any] = np.dtype(np.int64)
_INT8: np.dtype[Any] = np.dtype(np.int8)


@dataclass(frozen=True, eq=False)
class Box:
    """Arrays ``x`` with ``low <= x <= high``, element by element.

    Args:
        low: float64 lower bounds, of the space's shape; may contain ``-inf``.
        high: float64 upper bounds, of the space's shape; may contain ``inf``.
        dtype: Element type of the arrays.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    dtype: np.dtype[Any]

    def __post_init__(self) -> None:
        if self.low.shape != self.high.shape:
            raise ValueError(f"Box: low has shape {self.low.shape} but high has {self.high.shape}")
        if np.isnan(self.low).any() or np.isnan(self.high).any() or not (self.low <= self.high).all():
            raise ValueError("Box: every low must be a number and at most its high")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one value, without the batch axis."""
        return self.low.shape

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Box)
            and self.dtype == other.dtype
            and np.array_equal(self.low, other.low)
            and np.array_equal(self.high, other.high)
        )

    def __hash__(self) -> int:
        return hash((self.dtype, (self.low + 0.0).tobytes(), (self.high + 0.0).tobytes()))  # -0.0 equals 0.0

    def __str__(self) -> str:
        return f"Box({_bound(self.low)}, {_bound(self.high)}, {self.shape}, {self.dtype})"

    def batched(self, array: NDArray[Any], field: str = "observation") -> tuple[NDArray[Any], bool]:
        """Validates one value or a batch, and adds the batch axis if it is missing.

        Values outside the bounds are accepted, because many simulators exceed their declared bounds. NaN and infinity
        are rejected, because a network's outputs would be meaningless.

        Args:
            array: An array of this space's dtype and of shape ``shape`` or ``[B, *shape]``.
            field: Name of the array in error messages.

        Returns:
            The array as ``[B, *shape]``, and whether it had the batch axis.

        Raises:
            InvalidRequestError: The dtype or shape differs, the batch is empty, or an element is not finite.
        """
        batch, has_batch_axis = _with_batch_axis(array, self.shape, self.dtype, field)
        if batch.dtype.kind == "f" and not np.isfinite(batch).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(batch))[0])
            index = list(where if has_batch_axis else where[1:])
            raise InvalidRequestError(field, "finite numbers", f"{batch[where]} at index {index}")
        return batch, has_batch_axis


@dataclass(frozen=True)
class Discrete:
    """The integers ``start, ..., start + n - 1``, as scalars.

    Args:
        n: Number of values.
        start: The smallest value.
        dtype: Element type of arrays of values.
    """

    n: int
    start: int = 0
    dtype: np.dtype[Any] = _INT64

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"Discrete: n must be at least 1, got {self.n}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one value: that of a scalar."""
        return ()

    def __str__(self) -> str:
        return f"Discrete({self.n})" if self.start == 0 else f"Discrete({self.n}, start={self.start})"

    def batched(self, array: NDArray[Any], field: str = "observation") -> tuple[NDArray[Any], bool]:
        """Validates one value or a batch, and adds the batch axis if it is missing; see :meth:`Box.batched`.

        Raises:
            InvalidRequestError: The dtype or shape differs, the batch is empty, or a value is out of range.
        """
        batch, has_batch_axis = _with_batch_axis(array, self.shape, self.dtype, field)
        outside = (batch < self.start) | (batch >= self.start + self.n)
        if outside.any():
            expected = f"integers from {self.start} to {self.start + self.n - 1}"
            raise InvalidRequestError(field, expected, str(batch[outside][0]))
        return batch, has_batch_axis


@dataclass(frozen=True, eq=False)
class MultiDiscrete:
    """Arrays of integers: element i is one of ``start[i], ..., start[i] + nvec[i] - 1``.

    Args:
        nvec: int64, the number of values of each element, of the space's shape.
        start: int64, the smallest value of each element, of the same shape.
        dtype: Element type of the arrays.
    """

    nvec: NDArray[np.int64]
    start: NDArray[np.int64]
    dtype: np.dtype[Any] = _INT64

    def __post_init__(self) -> None:
        if self.nvec.shape != self.start.shape:
            raise ValueError(f"MultiDiscrete: nvec has shape {self.nvec.shape} but start has {self.start.shape}")
        if (self.nvec < 1).any():
            raise ValueError(f"MultiDiscrete: every nvec must be at least 1, got {self.nvec.min()}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one value, without the batch axis."""
        return self.nvec.shape

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, MultiDiscrete)
            and self.dtype == other.dtype
            and np.array_equal(self.nvec, other.nvec)
            and np.array_equal(self.start, other.start)
        )

    def __hash__(self) -> int:
        return hash((self.dtype, self.shape, self.nvec.tobytes(), self.start.tobytes()))

    def __str__(self) -> str:
        start = f", start={self.start.tolist()}" if self.start.any() else ""
        return f"MultiDiscrete({self.nvec.tolist()}{start})"

    def batched(self, array: NDArray[Any], field: str = "observation") -> tuple[NDArray[Any], bool]:
        """Validates one value or a batch, and adds the batch axis if it is missing; see :meth:`Box.batched`.

        Raises:
            InvalidRequestError: The dtype or shape differs, the batch is empty, or a value is out of range.
        """
        batch, has_batch_axis = _with_batch_axis(array, self.shape, self.dtype, field)
        outside = (batch < self.start) | (batch >= self.start + self.nvec)
        if outside.any():
            where = tuple(int(i) for i in np.argwhere(outside)[0])
            start, n = int(self.start[where[1:]]), int(self.nvec[where[1:]])
            index = list(where if has_batch_axis else where[1:])
            expected = f"integers from {start} to {start + n - 1} at index {index}"
            raise InvalidRequestError(field, expected, str(batch[where]))
        return batch, has_batch_axis


@dataclass(frozen=True)
class MultiBinary:
    """Arrays of zeros and ones, of type int8.

    Args:
        shape: Shape of one value, without the batch axis.
    """

    shape: tuple[int, ...]

    dtype = _INT8

    def __post_init__(self) -> None:
        if any(length < 0 for length in self.shape):
            raise ValueError(f"MultiBinary: every length must be at least 0, got {list(self.shape)}")

    @property
    def size(self) -> int:
        """Number of elements of a value."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"MultiBinary({self.shape[0] if len(self.shape) == 1 else list(self.shape)})"

    def batched(self, array: NDArray[Any], field: str = "observation") -> tuple[NDArray[Any], bool]:
        """Validates one value or a batch, and adds the batch axis if it is missing; see :meth:`Box.batched`.

        Raises:
            InvalidRequestError: The dtype or shape differs, the batch is empty, or an element is neither 0 nor 1.
        """
        batch, has_batch_axis = _with_batch_axis(array, self.shape, self.dtype, field)
        outside = (batch != 0) & (batch != 1)
        if outside.any():
            where = tuple(int(i) for i in np.argwhere(outside)[0])
            index = list(where if has_batch_axis else where[1:])
            raise InvalidRequestError(field, "zeros and ones", f"{batch[where]} at index {index}")
        return batch, has_batch_axis


ArraySpace = Box | Discrete | MultiDiscrete | MultiBinary


def from_gymnasium(space: gymnasium.Space[Any], where: str, advice: str, cast_wrapper: str) -> ArraySpace:
    """Converts a gymnasium space.

    Args:
        space: The space to convert.
        where: Name of the space in error messages, such as "action space".
        advice: Error message for a space of an unsupported kind.
        cast_wrapper: Name of a wrapper that changes the dtype, for the error message.

    Raises:
        UnsupportedSpaceError: pgkeras does not support this kind of space, or its dtype.
    """
    import gymnasium.spaces

    if space.dtype is not None and np.dtype(space.dtype).kind in "biufc" and np.dtype(space.dtype) not in DTYPES:
        raise UnsupportedSpaceError(
            f"{where} {space} is not supported: its dtype is {space.dtype}, expected one of "
            f"{', '.join(dtype.name for dtype in DTYPES)}; change it with {cast_wrapper}"
        )
    if isinstance(space, gymnasium.spaces.Box) and space.dtype is not None:
        return Box(np.asarray(space.low, np.float64), np.asarray(space.high, np.float64), np.dtype(space.dtype))
    if isinstance(space, gymnasium.spaces.Discrete):
        return Discrete(int(space.n), int(space.start), np.dtype(space.dtype))
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        nvec, start = np.asarray(space.nvec, np.int64), np.asarray(space.start, np.int64)
        return MultiDiscrete(nvec, start, np.dtype(space.dtype))
    if isinstance(space, gymnasium.spaces.MultiBinary):
        return MultiBinary(tuple(int(length) for length in space.shape))
    raise UnsupportedSpaceError(f"{where} {space} is not supported: {advice}")


def _with_batch_axis(
    array: NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any], field: str
) -> tuple[NDArray[Any], bool]:
    if array.dtype != dtype:
        raise InvalidRequestError(field, f"dtype {dtype}", f"dtype {array.dtype}")
    has_batch_axis = array.ndim == len(shape) + 1
    if array.shape[int(has_batch_axis) :] != shape or array.ndim - int(has_batch_axis) != len(shape):
        batch_shape = "[" + ", ".join(["batch", *map(str, shape)]) + "]"
        raise InvalidRequestError(field, f"shape {list(shape)} or {batch_shape}", f"shape {list(array.shape)}")
    if array.shape[:1] == (0,) and has_batch_axis:
        raise InvalidRequestError(field, "at least one observation", "an empty batch")
    return (array, True) if has_batch_axis else (array[np.newaxis], False)


def _bound(bound: NDArray[np.float64]) -> str:
    if bound.size and (bound == bound.flat[0]).all():
        return f"{bound.flat[0]:g}"
    return f"[{', '.join(f'{x:.4g}' for x in bound.flat)}]" if bound.size <= _MAX_LISTED else "[...]"
