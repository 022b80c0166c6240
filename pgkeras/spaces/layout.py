"""Layout: maps observations to rows of numbers for the act graph.

The graph, the tape and the server's batches hold one array per batch of observations of any space. Observations of an
array space are used unchanged. Observations of other spaces, and those with an action mask, are *packed*: their leaves
are concatenated in a row of float32 numbers, and the first layers of the network split the row again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgkeras.errors import UnsupportedSpaceError
from pgkeras.spaces import (
    ActionSpace,
    ArraySpace,
    Box,
    Dict,
    Discrete,
    MultiBinary,
    MultiDiscrete,
    Space,
    Text,
    Tuple,
    leaves,
    tokenizer,
)
from pgkeras.spaces.masks import flat_mask, mask_size_of

__all__ = ["ACTION_MASK", "EXACT_INTEGERS", "Layout", "Leaf", "graph_dtype", "part_of", "without_mask"]

ACTION_MASK = "action_mask"
"""The key of action masks, in a Dict observation or in ``info``."""

_FLOAT32: np.dtype[Any] = np.dtype(np.float32)
EXACT_INTEGERS = 2**24
"""float32 represents all integers up to this one exactly."""
# Limits for the observations of one gradient computation. With the network's activations, they take about 1 GB.
_MAX_NUMBERS = 2**25
_MAX_ROWS = 2**18


def graph_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Returns the dtype of a space's values in the act graph: uint8, int64 or float32."""
    if dtype.kind == "b" or dtype == np.uint8:
        return np.dtype(np.uint8)
    return np.dtype(np.float32 if dtype.kind == "f" else np.int64)


class Leaf(NamedTuple):
    """One array or text of a space, and its columns in a packed row."""

    path: tuple[str, ...]
    space: ArraySpace | Text
    start: int
    stop: int

    @property
    def name(self) -> str:
        """The keys of the path joined by dots; "observation" for a space that is one leaf."""
        return ".".join(self.path) if self.path else "observation"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the leaf; for a text, that of its token numbers."""
        return (self.space.max_tokens,) if isinstance(self.space, Text) else self.space.shape


@dataclass(frozen=True)
class Layout:
    """Maps the observations of a space, with or without an action mask, to rows.

    Args:
        leaves: The space's leaves in order.
        masked: The action space whose mask is at the end of a packed row; None for no mask.
        packed: Whether rows are packed.
    """

    leaves: tuple[Leaf, ...]
    masked: ActionSpace | None
    packed: bool

    @classmethod
    def of(cls, space: Space, masked: ActionSpace | None = None, what: str = "observation space") -> Layout:
        """Returns the layout of a space.

        Args:
            space: The space.
            masked: The action space whose mask is part of the rows; None for no mask.
            what: Name of the space in error messages.

        Raises:
            UnsupportedSpaceError: The space has no elements, or a leaf whose integers float32 cannot represent.
        """
        placed_leaves: list[Leaf] = []
        for path, leaf in leaves(space):
            start = placed_leaves[-1].stop if placed_leaves else 0
            placed = Leaf(path, leaf, start, start)
            placed_leaves.append(placed._replace(stop=start + math.prod(placed.shape)))
        packed = masked is not None or isinstance(space, Text | Dict | Tuple)
        if packed:
            for placed in placed_leaves:
                _check_exact(placed, what)
        if not placed_leaves or placed_leaves[-1].stop == 0:
            raise UnsupportedSpaceError(f"{what} {space} is not supported: it has no elements")
        return cls(tuple(placed_leaves), masked, packed)

    @cached_property
    def mask_size(self) -> int:
        """Length of the action mask at the end of a packed row; 0 for none."""
        return 0 if self.masked is None else mask_size_of(self.masked)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a row."""
        return (self.leaves[-1].stop + self.mask_size,) if self.packed else self.leaves[0].shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of a row."""
        if self.packed:
            return _FLOAT32
        assert not isinstance(self.leaves[0].space, Text)
        return graph_dtype(self.leaves[0].space.dtype)

    @cached_property
    def suffixes(self) -> tuple[str, ...]:
        """Unique suffixes for the leaves in the names of a graph's inputs and outputs, such as ``_camera``."""
        found: list[str] = []
        for leaf in self.leaves:
            suffix = re.sub(r"\W", "_", "".join(f"_{key}" for key in leaf.path), flags=re.ASCII)
            while suffix in found:  # as in {"a_b": ..., "a": {"b": ...}, "a_b_1": ...}
                suffix = f"{suffix}_{len(found)}"
            found.append(suffix)
        return tuple(found)

    @property
    def rows_at_once(self) -> int:
        """Maximum number of rows that a network computes at once, a power of two, to limit memory."""
        return 1 << (min(_MAX_ROWS, max(1, _MAX_NUMBERS // math.prod(self.shape))).bit_length() - 1)

    def not_finite(self, row: NDArray[Any]) -> tuple[str, str]:
        """Describes the first number of a row that is not finite, for error messages.

        Returns:
            The name of its part, and its value.
        """
        value = row[~np.isfinite(row)].flat[0]
        what = f"{value}; the maximum of float32 is 3.4e38" if np.isinf(value) else str(value)
        if not self.packed:
            return "observation", what
        column = int(np.isfinite(row).argmin())
        return next((f"observation {leaf.name}" for leaf in self.leaves if column < leaf.stop), ACTION_MASK), what

    def inside(self, rows: NDArray[Any]) -> NDArray[np.bool_]:
        """Returns for which rows ``[..., *shape]`` all integers and bits are in their spaces.

        Networks use integers as indices, so other integers would be misread.
        """
        columns, low, high = self._integers
        leading = rows.shape[: rows.ndim - len(self.shape)]
        values = rows.reshape(*leading, -1)[..., columns]
        return np.asarray(((values >= low) & (values <= high)).all(axis=-1))

    def outside(self, row: NDArray[Any]) -> tuple[str, str]:
        """Describes the first integer of a row that is outside its space, for error messages.

        Returns:
            The name of its part, and its value with the expected range.
        """
        columns, low, high = self._integers
        values = row.reshape(-1)[columns]
        i = int(((values < low) | (values > high)).argmax())
        name = next(leaf.name for leaf in self.leaves if columns[i] < leaf.stop)
        part = f"observation {name}" if self.packed else "observation"
        return part, f"{values[i]:.0f}, expected integers from {low[i]} to {high[i]}"

    @cached_property
    def _integers(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The columns of integers and bits in a row, and their lowest and highest values."""
        columns, low, high = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for leaf in self.leaves:
            space = leaf.space
            if isinstance(space, Text | Box):
                continue
            start, count = (0, 2) if isinstance(space, MultiBinary) else (space.start, _counts(space))
            columns.append(np.arange(leaf.start, leaf.stop))
            low.append(np.broadcast_to(start, space.shape).ravel())
            high.append(np.broadcast_to(start + count - 1, space.shape).ravel())
        return np.concatenate(columns), np.concatenate(low), np.concatenate(high)

    def pack(self, batch: Any, mask: NDArray[Any] | None = None) -> NDArray[Any]:
        """Converts a batch of observations to rows ``[B, *shape]``, without a copy if possible.

        Args:
            batch: A batch, as returned by the space's ``batched``.
            mask: ``[B, mask_size]``, True for allowed actions; None allows all.
        """
        if not self.packed:
            return np.asarray(batch).astype(self.dtype, copy=False)
        rows: NDArray[Any] | None = None
        for leaf in self.leaves:
            values = part_of(batch, leaf.path)
            array = tokenizer.encode(leaf.space, values) if isinstance(leaf.space, Text) else np.asarray(values)
            if rows is None:
                rows = np.empty((len(array), *self.shape), self.dtype)
            rows[:, leaf.start : leaf.stop] = array.reshape(len(rows), -1)
        assert rows is not None
        if self.mask_size:
            rows[:, -self.mask_size :] = True if mask is None else mask
        return rows

    def unpack(self, rows: NDArray[Any]) -> tuple[Any, NDArray[np.bool_] | None]:
        """Inverts :meth:`pack`: returns the observations, and their masks or None.

        Texts are restored from their tokens; see :func:`pgkeras.spaces.tokenizer.decode`.
        """
        mask = rows[:, -self.mask_size :] > 0 if self.mask_size else None
        values: Any = {}
        for leaf in self.leaves:
            columns = rows[:, leaf.start : leaf.stop] if self.packed else rows
            value: Any
            if isinstance(leaf.space, Text):
                value = tokenizer.decode(leaf.space, columns)
            else:
                value = columns.reshape(len(rows), *leaf.shape).astype(leaf.space.dtype)
            if not leaf.path:
                return value, mask
            place = values
            for key in leaf.path[:-1]:
                place = place.setdefault(key, {})
            place[leaf.path[-1]] = value
        return values, mask

    def write(self, row: NDArray[Any], observation: Any, mask: Any = None) -> None:
        """Validates the observations of an environment, and writes them into their rows.

        Args:
            row: ``[..., *shape]``, without a leading axis for one observation, or with one for a batch.
            observation: gymnasium's observation: an array, text, mapping or sequence.
            mask: ``[..., mask_size]``; None allows all.

        Raises:
            ValueError: A leaf is missing, its shape differs, or the conversion would lose fractions.
        """
        if not self.packed:
            _copy(row, observation, "an observation")
            return
        leading = row.shape[:-1]
        for leaf in self.leaves:
            values = part_of(observation, leaf.path)
            place = row[..., leaf.start : leaf.stop]
            if isinstance(leaf.space, Text):
                encoded = tokenizer.encode(leaf.space, [str(text) for text in (values if leading else [values])])
                place[...] = encoded if leading else encoded[0]
            else:
                _copy(place.reshape((*leading, *leaf.shape)) if leaf.shape else place[..., 0], values, leaf.name)
        if self.mask_size:
            assert self.masked is not None
            allowed = flat_mask(mask, self.masked, len(leading))
            _copy(row[..., -self.mask_size :], np.broadcast_to(allowed, (*leading, allowed.shape[-1])), ACTION_MASK)


def without_mask(space: Space) -> Space:
    """Returns a Dict without its part ``action_mask``, and any other space unchanged."""
    if not isinstance(space, Dict) or ACTION_MASK not in space.spaces:
        return space
    return Dict({key: part for key, part in space.spaces.items() if key != ACTION_MASK})


def part_of(value: Any, path: Sequence[str]) -> Any:
    """Returns the value at a leaf's path in an observation or a batch of observations.

    Raises:
        ValueError: There is no value at the path; the message describes the observation.
    """
    part = value
    try:
        for key in path:
            part = part[key] if isinstance(part, Mapping) else part[int(key)]
    except (LookupError, TypeError, ValueError) as error:
        got = f"one with {', '.join(map(repr, value))}" if isinstance(value, Mapping) else repr(value)
        raise ValueError(f"expected an observation with the part {'.'.join(path)!r}, got {got}") from error
    return part


def _copy(place: NDArray[Any], value: Any, name: str) -> None:
    """Copies a value. Raises an error if it would be broadcast, or would lose fractions."""
    array = value if isinstance(value, np.ndarray) else np.asarray(value)
    if array.shape != place.shape:
        raise ValueError(f"expected {name} of shape {place.shape}, got {array.shape}")
    # NumPy considers casts from integers to float32 unsafe, but the layout has checked the range. Numbers beyond the
    # range of float32 become infinite, and are reported later.
    kinds = "biuf" if place.dtype == _FLOAT32 else ""
    if array.dtype == place.dtype or array.dtype.kind in kinds:
        place[...] = array
    else:
        np.copyto(place, array, casting="same_kind")


def _counts(space: Discrete | MultiDiscrete) -> int | NDArray[np.int64]:
    return space.n if isinstance(space, Discrete) else space.nvec


def _check_exact(leaf: Leaf, what: str) -> None:
    space = leaf.space
    if isinstance(space, Text):
        largest = float(len(space.vocabulary))
    elif isinstance(space, Box | MultiBinary):
        return
    else:
        start, count = np.asarray(space.start), np.asarray(_counts(space))
        largest = float(np.maximum(np.abs(start), np.abs(start + count)).max(initial=0))
    if largest > EXACT_INTEGERS:
        raise UnsupportedSpaceError(
            f"{what} {space} of {leaf.name} is not supported as a part: its integers exceed {EXACT_INTEGERS:,}, up to "
            "which float32 is exact; use a Box, or number the values from 0"
        )
