"""Layout: how observations are laid out for the act graph, one row of numbers for each.

Whatever a space looks like, the graph, the tape and the server's batches hold one array per batch of observations. An
array space's observations are that array as they are. Those of any other space, and those that come with an action
mask, are *packed*: their leaves stand one after the other in a row of float32 numbers, and the first layers of the
network take them apart again.
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
"""The key under which environments give masks, in a Dict observation or in ``info``."""

_FLOAT32: np.dtype[Any] = np.dtype(np.float32)
EXACT_INTEGERS = 2**24
"""float32 holds all integers up to it."""
# Numbers in the observations that a gradient is taken of at once, and how many of those: with what a network makes of
# them on the way, that comes to about a gigabyte.
_MOST_NUMBERS = 2**25
_MOST_ROWS = 2**18


def graph_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which the act graph holds a space's values: uint8, int64 or float32."""
    if dtype.kind == "b" or dtype == np.uint8:
        return np.dtype(np.uint8)
    return np.dtype(np.float32 if dtype.kind == "f" else np.int64)


class Leaf(NamedTuple):
    """One array or text in a space, and the columns of a packed row that hold it."""

    path: tuple[str, ...]
    space: ArraySpace | Text
    start: int
    stop: int

    @property
    def name(self) -> str:
        """The path with dots between its keys; "observation" for a space that is one leaf."""
        return ".".join(self.path) if self.path else "observation"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the leaf: for a text, of its tokens' numbers."""
        return (self.space.max_tokens,) if isinstance(self.space, Text) else self.space.shape


@dataclass(frozen=True)
class Layout:
    """How the observations of one space, with an action mask or without, become rows.

    Args:
        leaves: The space's leaves in order.
        masked: The action space whose mask stands at the end of a packed row; None for no mask.
        packed: Whether rows are packed.
    """

    leaves: tuple[Leaf, ...]
    masked: ActionSpace | None
    packed: bool

    @classmethod
    def of(cls, space: Space, masked: ActionSpace | None = None, what: str = "observation space") -> Layout:
        """The layout for a space.

        Args:
            space: The space.
            masked: An action space whose mask comes with its values.
            what: What to call the space in an error.

        Raises:
            UnsupportedSpaceError: It has no leaf, or a leaf whose integers float32 cannot tell apart.
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
            raise UnsupportedSpaceError(f"{what} {space} is not supported: it holds nothing")
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
        """Its dtype."""
        if self.packed:
            return _FLOAT32
        assert not isinstance(self.leaves[0].space, Text)
        return graph_dtype(self.leaves[0].space.dtype)

    @cached_property
    def suffixes(self) -> tuple[str, ...]:
        """What tells the leaves apart in the names of a graph's inputs and outputs, such as ``_camera``."""
        found: list[str] = []
        for leaf in self.leaves:
            suffix = re.sub(r"\W", "_", "".join(f"_{key}" for key in leaf.path), flags=re.ASCII)
            while suffix in found:  # {"a_b": ..., "a": {"b": ...}}, and beside them perhaps {"a_b_1": ...}
                suffix = f"{suffix}_{len(found)}"
            found.append(suffix)
        return tuple(found)

    @property
    def rows_at_once(self) -> int:
        """How many rows a network should compute at once at most, a power of two: memory is not without end."""
        return 1 << (min(_MOST_ROWS, max(1, _MOST_NUMBERS // math.prod(self.shape))).bit_length() - 1)

    def not_finite(self, row: NDArray[Any]) -> tuple[str, str]:
        """The first part of a row that holds a number that is not finite, for people.

        Returns:
            Its name, and what it holds.
        """
        value = row[~np.isfinite(row)].flat[0]
        what = f"{value}; numbers are float32, which ends at 3.4e38" if np.isinf(value) else str(value)
        if not self.packed:
            return "observation", what
        column = int(np.isfinite(row).argmin())
        return next((f"observation {leaf.name}" for leaf in self.leaves if column < leaf.stop), ACTION_MASK), what

    def inside(self, rows: NDArray[Any]) -> NDArray[np.bool_]:
        """Which rows ``[..., *shape]`` hold no integer or bit outside its space.

        Networks take integers as numbers of rows and columns, so that others would be read as something else.
        """
        columns, low, high = self._integers
        leading = rows.shape[: rows.ndim - len(self.shape)]
        values = rows.reshape(*leading, -1)[..., columns]
        return np.asarray(((values >= low) & (values <= high)).all(axis=-1))

    def outside(self, row: NDArray[Any]) -> tuple[str, str]:
        """The first part of a row that holds an integer outside its space, for people.

        Returns:
            Its name, and what it holds and should.
        """
        columns, low, high = self._integers
        values = row.reshape(-1)[columns]
        i = int(((values < low) | (values > high)).argmax())
        name = next(leaf.name for leaf in self.leaves if columns[i] < leaf.stop)
        part = f"observation {name}" if self.packed else "observation"
        return part, f"{values[i]:.0f}, expected integers from {low[i]} to {high[i]}"

    @cached_property
    def _integers(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The elements of a row that are integers or bits by their spaces, and their lowest and highest values."""
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
        """A batch of observations as rows ``[B, *shape]``; no copy where none is needed.

        Args:
            batch: As the space's ``batched`` gives it.
            mask: ``[B, mask_size]``, true where an action is allowed; None allows all.
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
        """The inverse of :meth:`pack`: the observations, and their masks where there are any.

        Of a text comes back what was read of it, token by token.
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
        """Writes observations of an environment into their rows, which it does not trust to be what they should be.

        Args:
            row: ``[..., *shape]``, without a leading axis for one observation or with one for a batch.
            observation: As gymnasium gives it: an array, text, mapping or sequence.
            mask: ``[..., mask_size]``; None allows all.

        Raises:
            ValueError: A leaf is missing, its shape differs, or writing it would lose its fractions.
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
    """A Dict without its part ``action_mask``, any other space as it is."""
    if not isinstance(space, Dict) or ACTION_MASK not in space.spaces:
        return space
    return Dict({key: part for key, part in space.spaces.items() if key != ACTION_MASK})


def part_of(value: Any, path: Sequence[str]) -> Any:
    """The value at a leaf's path in an observation or a batch of them.

    Raises:
        ValueError: Nothing; the message says what there is.
    """
    part = value
    try:
        for key in path:
            part = part[key] if isinstance(part, Mapping) else part[int(key)]
    except (LookupError, TypeError, ValueError) as error:
        there = f"one with {', '.join(map(repr, value))}" if isinstance(value, Mapping) else repr(value)
        raise ValueError(f"expected an observation with the part {'.'.join(path)!r}, got {there}") from error
    return part


def _copy(place: NDArray[Any], value: Any, name: str) -> None:
    """Copies; refuses what would be broadcast to fit, or lose its fractions."""
    array = value if isinstance(value, np.ndarray) else np.asarray(value)
    if array.shape != place.shape:
        raise ValueError(f"expected {name} of shape {place.shape}, got {array.shape}")
    # Whether float32 holds these integers, the layout has seen to; NumPy would think that it may not. Numbers beyond
    # its range become infinite, with a warning of NumPy's, and are told of by name.
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
            f"{what} {space} of {leaf.name} is not supported beside others: its integers exceed "
            f"{EXACT_INTEGERS:,}; use a Box, or number its values from 0"
        )
