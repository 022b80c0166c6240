"""Action masks: flags for the allowed actions, or for the allowed values of an action's components.

A mask is one row with a flag for each value of the Discrete and MultiDiscrete leaves of an action space, in order. The
allowed values of a component cannot depend on the other components.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgkeras.errors import InvalidRequestError
from pgkeras.spaces.arrays import Discrete, MultiDiscrete
from pgkeras.spaces.structures import ActionSpace, Dict, Tuple, leaves

__all__ = ["MaskPart", "check_mask", "flat_mask", "mask_parts", "mask_size_of"]


class MaskPart(NamedTuple):
    """The columns of a mask for one leaf of an action space.

    Args:
        path: Path of the leaf.
        nvec: Number of values of each component.
        start: First column.
        stop: Column after the last.
    """

    path: tuple[str, ...]
    nvec: NDArray[np.int64]
    start: int
    stop: int


def mask_parts(action_space: ActionSpace) -> Iterator[MaskPart]:
    """Yields the parts of a mask in order; none if no action can be masked."""
    start = 0
    for path, leaf in leaves(action_space):
        if isinstance(leaf, Discrete | MultiDiscrete):
            nvec = np.array([leaf.n]) if isinstance(leaf, Discrete) else leaf.nvec.ravel()
            yield MaskPart(path, nvec, start, start := start + int(nvec.sum()))


def mask_size_of(action_space: ActionSpace) -> int:
    """Returns the length of a mask: n for Discrete, the sum of nvec for MultiDiscrete, their sum for Dict and Tuple."""
    return max((part.stop for part in mask_parts(action_space)), default=0)


def flat_mask(mask: Any, action_space: ActionSpace, leading_axes: int) -> NDArray[Any]:
    """Converts an environment's mask to one array.

    Args:
        mask: An array ``[..., mask_size]``. For MultiDiscrete also a sequence with an array for each component, nested
            if the space has several axes. For a Dict or Tuple also a mapping or sequence of the masks of its parts, of
            which any may be missing or None. None allows all actions.
        action_space: The action space.
        leading_axes: Number of batch axes of each array.

    Returns:
        ``[..., mask_size]``; without leading axes if the mask is None.

    Raises:
        ValueError: The mask has an unknown part, or flags for combinations of components.
    """
    if mask is None:
        return np.ones(mask_size_of(action_space), np.bool_)
    structures = {Dict: Mapping, Tuple: tuple | list}
    if not isinstance(mask, structures.get(type(action_space), ())) or _is_flat(mask, leading_axes):
        (first, *more) = mask_parts(action_space)
        return _flatten_leaf(mask, first if not more else None, leading_axes)
    parts = list(mask_parts(action_space))
    _check_names(mask, action_space, {part.path for part in parts})
    given = {part.path: _at(mask, part.path) for part in parts}
    arrays = {
        part.path: _flatten_leaf(given[part.path], part, leading_axes) for part in parts if given[part.path] is not None
    }
    leading = next((array.shape[:leading_axes] for array in arrays.values()), ())
    every = [arrays.get(part.path, np.ones((*leading, part.stop - part.start), np.bool_)) for part in parts]
    return np.concatenate(every, axis=-1)


def check_mask(mask: NDArray[Any], action_space: ActionSpace, field: str = "action_mask") -> NDArray[np.float32]:
    """Validates an action mask, or a batch of them, for the act graph.

    Args:
        mask: Of any dtype, ``[mask_size]`` or ``[B, mask_size]``: True or 1 for allowed actions, False or 0 for others.
            For MultiDiscrete, the values of the first component come first, then those of the second, and so on.
        action_space: The action space.
        field: Name of the mask in error messages.

    Returns:
        float32 ``[B, mask_size]`` of zeros and ones, the input of the act graph.

    Raises:
        InvalidRequestError: The shape differs, an element is neither 0 nor 1, or a row allows no action (or no value
            of one of its components).
    """
    parts = list(mask_parts(action_space))
    size = parts[-1].stop
    if mask.ndim not in (1, 2) or mask.shape[-1] != size or not mask.size:
        raise InvalidRequestError(field, f"shape [{size}] or [batch, {size}]", f"shape {list(mask.shape)}")
    batch = mask.reshape(-1, size)
    allowed = batch == 1
    invalid = ~allowed & (batch != 0)
    if invalid.any():
        raise InvalidRequestError(field, "zeros and ones, or false and true", f"{batch[invalid][0]}")
    nvec = np.concatenate([part.nvec for part in parts])
    some = np.logical_or.reduceat(allowed, np.cumsum(nvec) - nvec, axis=1)
    if not some.all():
        row, component = (int(i) for i in np.argwhere(~some)[0])
        where = f" for {_names(parts)[component]}" if len(nvec) > 1 else ""
        raise InvalidRequestError(field, f"at least one allowed action{where}", f"none in row {row}")
    return np.asarray(allowed, np.float32)


def _names(parts: Sequence[MaskPart]) -> list[str]:
    """Returns the name of each component, for error messages."""
    names = []
    for part in parts:
        leaf = ".".join(part.path)
        several = [f"component {i}" + (f" of {leaf}" if leaf else "") for i in range(len(part.nvec))]
        names += several if len(part.nvec) > 1 or not leaf else [leaf]
    return names


def _flatten_leaf(mask: Any, part: MaskPart | None, leading_axes: int) -> NDArray[Any]:
    """Converts the mask of one leaf to an array.

    For a MultiDiscrete space, it may be a sequence with an array for each component, nested like the space's axes.
    """
    if isinstance(mask, tuple | list):
        components = list(_components(mask, leading_axes))
        lengths = [one.shape[-1] for one in components if one.ndim == leading_axes + 1]
        if len(lengths) == len(components) and (part is None or lengths == part.nvec.tolist()):
            mask = np.concatenate(components, axis=-1)
        elif part is not None and len(set(lengths)) > 1:
            raise ValueError(
                f"expected an action mask with components of {', '.join(map(str, part.nvec))} values, got "
                f"{', '.join(map(str, lengths))}"
            )
    array = np.asarray(mask)
    shape = array.shape[leading_axes:]
    if part is not None and len(part.nvec) > 1 and shape == tuple(part.nvec) and np.prod(shape) != part.nvec.sum():
        combinations = int(np.prod(shape))
        raise ValueError(
            f"expected an action mask with a flag for each of the {part.nvec.sum()} values, got one for each of their "
            f"{combinations} combinations: the allowed values of a component cannot depend on the others. Use a "
            f"Discrete space of {combinations} actions (gymnasium.wrappers.TransformAction) with this mask flattened, "
            "or choose the components in separate steps"
        )
    return array.reshape(*array.shape[:leading_axes], -1)


def _components(mask: Any, leading_axes: int) -> Iterator[NDArray[Any]]:
    """Yields the arrays in nested sequences, row by row."""
    try:
        array = np.asarray(mask)
    except ValueError:  # arrays of different lengths
        array = None
    if isinstance(mask, tuple | list) and (array is None or array.ndim > leading_axes + 1):
        for one in mask:
            yield from _components(one, leading_axes)
    else:
        yield np.asarray(mask)


def _is_flat(mask: Any, leading_axes: int) -> bool:
    """Returns whether a mask is numbers with one axis for all parts; a mask by parts has one more axis."""
    try:
        array = np.asarray(mask)
    except ValueError:  # parts of different lengths
        return False
    return array.dtype.kind in "biuf" and array.ndim == leading_axes + 1


def _at(mask: Any, path: Sequence[str]) -> Any:
    for key in path:
        if mask is None:
            return None
        mask = mask.get(key) if isinstance(mask, Mapping) else mask[int(key)]
    return mask


def _check_names(mask: Any, space: Any, known: set[tuple[str, ...]], path: tuple[str, ...] = ()) -> None:
    """Rejects masks of unknown parts. gymnasium's vector environments add keys that begin with "_"."""
    if mask is None or path in known:
        return
    if isinstance(space, Dict) and isinstance(mask, Mapping):
        if unknown := [key for key in mask if key not in space.spaces and not str(key).startswith("_")]:
            raise ValueError(f"expected an action mask of the parts {', '.join(space.spaces)}, got one of {unknown[0]}")
        for key, part in space.spaces.items():
            _check_names(mask.get(key), part, known, (*path, key))
    elif isinstance(space, Tuple) and isinstance(mask, tuple | list) and len(mask) == len(space.spaces):
        for i, part in enumerate(space.spaces):
            _check_names(mask[i], part, known, (*path, str(i)))
    else:
        name = ".".join(path)
        reason = "" if isinstance(space, Dict | Tuple) else "; this part is not discrete and cannot be masked"
        raise ValueError(
            f"expected an action mask of {space}{f' at {name}' if name else ''}, got {type(mask).__name__}{reason}"
        )
