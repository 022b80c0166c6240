"""Converts observations of any space to messages and back, and casts a caller's arguments to a space's types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.errors import InvalidRequestError
from pgkeras.protocol.wire import decode_tensor, write_tensor
from pgkeras.spaces import ActionSpace, Dict, Space, Text, Tuple, leaves, parts
from pgkeras.spaces.masks import flat_mask
from pgkeras.v1 import tensors_pb2

__all__ = [
    "cast",
    "cast_mask",
    "decode_value",
    "first",
    "flattened",
    "is_single",
    "plain",
    "taken",
    "with_batch_axis",
    "write_value",
]


def decode_value(message: tensors_pb2.Value, space: Space, field: str = "observation") -> Any:
    """Decodes a Value message to arrays, lists of strings, and dictionaries of these, as the space's ``batched`` takes.

    Args:
        message: The message: a value, or a batch of values.
        space: The expected space. Only the structure is checked here.
        field: Path of the value in the request, for the error message.

    Raises:
        InvalidRequestError: The value has another kind, or a tensor is malformed.
    """
    kind = message.WhichOneof("kind")
    wanted = "texts" if isinstance(space, Text) else "fields" if isinstance(space, Dict | Tuple) else "tensor"
    if kind != wanted:
        raise InvalidRequestError(field, f"a value of kind {wanted!r}", repr(kind) if kind else "nothing")
    if kind == "tensor":
        return decode_tensor(message.tensor, f"{field}.tensor")
    if kind == "texts":
        return list(message.texts.texts)
    spaces = parts(space)
    fields = message.fields.fields
    _refuse_unknown(fields, spaces, field)
    return {key: decode_value(fields[key], part, f"{field}.{key}") for key, part in spaces.items() if key in fields}


def write_value(message: tensors_pb2.Value, value: Any) -> None:
    """Writes the result of :func:`cast` into an empty Value message."""
    if isinstance(value, np.ndarray):
        write_tensor(message.tensor, value)
    elif isinstance(value, str):
        message.texts.texts.append(value)
    elif isinstance(value, list):
        message.texts.texts.extend(value)
    else:
        for key, part in value.items():
            write_value(message.fields.fields[key], part)


def cast(value: Any, space: Space, field: str = "observation") -> Any:
    """Casts a caller's observations to arrays of the space's dtypes, strings, lists, and dictionaries of these.

    Lists, and arrays of another dtype of the same kind, are cast. Shapes are checked by the server.

    Raises:
        InvalidRequestError: The structure differs from the space's, or numbers do not fit a dtype.
    """
    if isinstance(space, Text):
        if isinstance(value, str):
            return value
        texts = list(value) if isinstance(value, Iterable) else [value]
        if not all(isinstance(text, str) for text in texts):
            raise InvalidRequestError(field, "a text, or a batch of texts", type(value).__name__)
        return texts
    if not isinstance(space, Dict | Tuple):
        return _cast_array(value, space, field)
    if isinstance(space, Tuple) and isinstance(value, Sequence):
        value = {str(i): part for i, part in enumerate(value)}
    spaces = parts(space)
    if not isinstance(value, Mapping):
        raise InvalidRequestError(field, f"the parts {', '.join(spaces)}", type(value).__name__)
    _refuse_unknown(value, spaces, field)
    if missing := [key for key in spaces if key not in value]:
        raise InvalidRequestError(f"{field}.{missing[0]}", str(spaces[missing[0]]), "nothing")
    return {key: cast(value[key], part, f"{field}.{key}") for key, part in spaces.items()}


def cast_mask(mask: Any, action_space: ActionSpace, leading_axes: int) -> NDArray[np.bool_]:
    """Casts a caller's action mask to bools.

    Args:
        mask: An array, or the masks of the parts of a Dict or Tuple; see :func:`pgkeras.spaces.masks.flat_mask`.
        action_space: The masked action space.
        leading_axes: 1 for a batch of masks, 0 for a single mask.

    Raises:
        InvalidRequestError: The mask contains values other than 0 and 1, or does not match the space.
    """
    try:
        has_parts = isinstance(action_space, Dict | Tuple)
        array = flat_mask(mask, action_space, leading_axes) if has_parts else np.asarray(mask)
    except ValueError as error:
        raise InvalidRequestError("action_mask", "an array of bools", str(error)) from error
    if array.dtype.kind not in "biu" or not np.isin(array, (0, 1)).all():
        raise InvalidRequestError("action_mask", "bools, or zeros and ones", f"dtype {array.dtype}")
    return array.astype(np.bool_)


def is_single(value: Any, space: Space) -> bool:
    """Whether the result of :func:`cast` is a single observation, judged by its first array, or text if it has none."""
    path, leaf = min(leaves(space), key=lambda found: isinstance(found[1], Text))
    for key in path:
        value = value[key]
    return isinstance(value, str) if isinstance(leaf, Text) else value.ndim == len(leaf.shape)


def first(batch: Any) -> Any:
    """Returns the first value of a batch."""
    return taken(batch, 0)


def taken(batch: Any, index: Any) -> Any:
    """Returns the value of a batch at an index of its leading axis, or the whole batch for ``...``."""
    if isinstance(batch, Mapping):
        return {key: taken(part, index) for key, part in batch.items()}
    if isinstance(batch, tuple):
        return tuple(taken(part, index) for part in batch)
    return batch[index, ...] if isinstance(batch, np.ndarray) and index is not ... else batch[index]


def flattened(value: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Flattens nested dictionaries, with dots between the keys."""
    found: dict[str, Any] = {}
    for key, part in value.items():
        name = f"{path}.{key}" if path else key
        found |= flattened(part, name) if isinstance(part, Mapping) else {name: part}
    return found


def plain(value: Any) -> Any:
    """Converts a value to JSON types: arrays and tuples become lists."""
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, tuple) else value.tolist()


def with_batch_axis(value: Any) -> Any:
    """Converts a single observation to a batch of one."""
    if isinstance(value, np.ndarray):
        return value[np.newaxis]
    if isinstance(value, str):
        return [value]
    return {key: with_batch_axis(part) for key, part in value.items()}


def _refuse_unknown(keys: Iterable[Any], spaces: Mapping[str, Space], field: str) -> None:
    if unknown := sorted(str(key) for key in keys if key not in spaces):
        raise InvalidRequestError(f"{field}.{unknown[0]}", f"only the parts {', '.join(spaces)}", "another one")


def _cast_array(value: Any, space: Any, field: str) -> NDArray[Any]:
    dtype = space.dtype
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InvalidRequestError(field, f"an array of {space}", str(error)) from error
    if array.dtype == dtype:
        return array
    if array.dtype.kind in "iu" and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        fits = array.size == 0 or limits.min <= array.min() <= array.max() <= limits.max
    else:
        fits = np.can_cast(array.dtype, dtype, "same_kind")
    if not fits:
        raise InvalidRequestError(field, f"numbers that fit dtype {dtype}", f"dtype {array.dtype}")
    with np.errstate(over="ignore"):  # an overflow becomes infinite, which the server refuses
        return array.astype(dtype)
