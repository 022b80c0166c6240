"""Codec between Python values and the protocol's messages (``protos/pgkeras/v1``)."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from google.protobuf import json_format, struct_pb2
from numpy.typing import NDArray

from pgkeras.errors import InvalidRequestError, UnsupportedSpaceError
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
)
from pgkeras.spaces.arrays import DTYPES
from pgkeras.spaces.spec import DistributionKind, PolicySpec
from pgkeras.v1 import policy_pb2, spaces_pb2, tensors_pb2

__all__ = [
    "MAX_MESSAGE_BYTES",
    "as_actions",
    "decode_distribution",
    "decode_space",
    "decode_spec",
    "decode_struct",
    "decode_tensor",
    "encode_space",
    "encode_spec",
    "encode_tensor",
    "space_size",
    "spec_from_json",
    "spec_hash",
    "spec_to_json",
    "write_distribution",
    "write_tensor",
]

MAX_MESSAGE_BYTES = 64 * 2**20
"""Largest message that either end receives by default; gRPC's own 4 MB is too small for batches of images."""

_MAX_AXES = 32
# A small message must not cause a huge allocation.
_MAX_SPACE_SIZE = 2**26

# A dtype created from its string is NumPy's singleton, which a dictionary finds by identity.
_DATA_TYPES: dict[np.dtype[Any], Any] = {
    np.dtype(dtype.newbyteorder("<").str): tensors_pb2.DataType.Value(f"DATA_TYPE_{dtype.name.upper()}")
    for dtype in DTYPES
}
_DTYPES = {number: dtype for dtype, number in _DATA_TYPES.items()}

_KINDS: dict[DistributionKind, Any] = {
    kind: policy_pb2.DistributionKind.Value(f"DISTRIBUTION_KIND_{kind.name}") for kind in DistributionKind
}
_KINDS_BACK = {number: kind for kind, number in _KINDS.items()}


def encode_tensor(array: NDArray[Any]) -> tensors_pb2.Tensor:
    """Encodes an array as a Tensor message; see :func:`write_tensor`."""
    message = tensors_pb2.Tensor()
    write_tensor(message, array)
    return message


def write_tensor(message: tensors_pb2.Tensor, array: NDArray[Any]) -> None:
    """Writes an array into an empty Tensor message: little-endian, C order.

    Writing in place takes half the time of assigning a finished message, because protobuf copies that.

    Raises:
        TypeError: The array's dtype has no DataType.
    """
    number = _DATA_TYPES.get(array.dtype)
    if number is None:
        little_endian = array.dtype.newbyteorder("<")
        if little_endian not in _DATA_TYPES:
            raise TypeError(f"dtype {array.dtype} cannot be sent; it must be one of {sorted(map(str, _DATA_TYPES))}")
        write_tensor(message, array.astype(little_endian))
        return
    message.dtype = number
    message.shape.extend(array.shape)
    message.data = array.tobytes()


def decode_tensor(message: tensors_pb2.Tensor, field: str) -> NDArray[Any]:
    """Decodes a Tensor message to a read-only array that shares its memory.

    Args:
        message: The message.
        field: Path of the tensor in the request, for the error message.

    Raises:
        InvalidRequestError: The dtype is unknown, the shape is invalid, or the length of the data does not match.
    """
    dtype = _DTYPES.get(message.dtype)
    if dtype is None:
        raise InvalidRequestError(f"{field}.dtype", "a DataType other than UNSPECIFIED", str(message.dtype))
    shape = tuple(message.shape)
    if len(shape) > _MAX_AXES:
        raise InvalidRequestError(f"{field}.shape", f"at most {_MAX_AXES} axes", f"{len(shape)} axes")
    if shape and min(shape) < 0:
        raise InvalidRequestError(f"{field}.shape", "lengths of at least 0", str(list(shape)))
    data = message.data  # read once, because protobuf copies it at every access
    size = math.prod(shape) * dtype.itemsize
    if size != len(data):
        raise InvalidRequestError(
            f"{field}.data", f"{size} bytes for shape {list(shape)} of {dtype}", f"{len(data)} bytes"
        )
    array = np.frombuffer(data, dtype)
    if dtype == np.bool_ and size and array.view(np.uint8).max() > 1:
        raise InvalidRequestError(f"{field}.data", "bytes of 0 or 1 for a bool", f"{array.view(np.uint8).max()}")
    try:
        return array.reshape(shape)
    except ValueError as error:  # no elements, but axes longer than NumPy supports
        raise InvalidRequestError(f"{field}.shape", "lengths that fit memory", str(list(shape))) from error


def encode_space(space: Space) -> spaces_pb2.Space:
    """Encodes a space as a Space message."""
    if isinstance(space, Dict):
        parts = [spaces_pb2.NamedSpace(key=key, space=encode_space(part)) for key, part in space.spaces.items()]
        return spaces_pb2.Space(dict=spaces_pb2.DictSpace(spaces=parts))
    if isinstance(space, Tuple):
        return spaces_pb2.Space(tuple=spaces_pb2.TupleSpace(spaces=[encode_space(part) for part in space.spaces]))
    return _encode_leaf(space)


def _encode_leaf(space: ArraySpace | Text) -> spaces_pb2.Space:
    if isinstance(space, Box):
        return spaces_pb2.Space(
            box=spaces_pb2.BoxSpace(
                dtype=_DATA_TYPES[space.dtype], shape=space.shape, low=_bounds(space.low), high=_bounds(space.high)
            )
        )
    if isinstance(space, Text):
        return spaces_pb2.Space(
            text=spaces_pb2.TextSpace(
                min_length=space.min_length,
                max_length=space.max_length,
                charset=space.charset,
                vocabulary=space.vocabulary,
                max_tokens=space.max_tokens,
            )
        )
    if isinstance(space, MultiDiscrete):
        return spaces_pb2.Space(
            multi_discrete=spaces_pb2.MultiDiscreteSpace(
                nvec=space.nvec.ravel(), start=space.start.ravel(), shape=space.shape, dtype=_DATA_TYPES[space.dtype]
            )
        )
    if isinstance(space, MultiBinary):
        return spaces_pb2.Space(multi_binary=spaces_pb2.MultiBinarySpace(shape=space.shape))
    return spaces_pb2.Space(
        discrete=spaces_pb2.DiscreteSpace(n=space.n, start=space.start, dtype=_DATA_TYPES[space.dtype])
    )


def decode_space(message: spaces_pb2.Space) -> Space:
    """Decodes a Space message.

    Raises:
        UnsupportedSpaceError: This version does not support the kind of space or the element type.
        ValueError: The numbers do not form a valid space.
    """
    kind = message.WhichOneof("kind")
    if kind == "dict":
        return Dict({part.key: decode_space(part.space) for part in message.dict.spaces})
    if kind == "tuple":
        return Tuple(tuple(decode_space(part) for part in message.tuple.spaces))
    return _decode_leaf(message, kind)


def as_actions(space: Space) -> ActionSpace:
    """Checks that a space can be an action space, and returns it.

    Raises:
        UnsupportedSpaceError: The space is or contains a text.
    """
    if isinstance(space, Text) or any(isinstance(leaf, Text) for _, leaf in leaves(space)):
        raise UnsupportedSpaceError(f"this pgkeras does not handle actions of {space}; a newer one may")
    return space


def space_size(message: spaces_pb2.Space) -> int:
    """Returns the size of a space, without allocating it.

    The size is the number of elements of a Box or MultiBinary, the number of values of a Discrete, the total number of
    values of a MultiDiscrete, and the sum over the parts of a Dict or Tuple. Invalid negative numbers count as 0, so
    that they cannot offset other parts.
    """
    kind = message.WhichOneof("kind")
    if kind in ("dict", "tuple"):
        parts = getattr(message, kind).spaces
        return sum(space_size(part.space if kind == "dict" else part) for part in parts)
    if kind == "discrete":
        return max(0, message.discrete.n)
    if kind == "multi_discrete":
        return sum(max(0, n) for n in message.multi_discrete.nvec)
    return max(0, math.prod(getattr(message, kind).shape)) if kind in ("box", "multi_binary") else 0


def _decode_leaf(message: spaces_pb2.Space, kind: str | None) -> ArraySpace | Text:
    if kind == "text":
        text = message.text
        return Text(text.min_length, text.max_length, text.charset, tuple(text.vocabulary), text.max_tokens)
    if kind == "multi_binary":
        return MultiBinary(_shape(message.multi_binary.shape, "MultiBinary"))
    if kind not in ("box", "discrete", "multi_discrete"):
        raise UnsupportedSpaceError(f"this pgkeras does not handle spaces of kind {kind!r}; a newer one may")
    inner = getattr(message, kind)
    if inner.dtype not in _DTYPES:
        raise UnsupportedSpaceError(f"this pgkeras does not know DataType {inner.dtype}; a newer one may")
    dtype = _DTYPES[inner.dtype]
    if kind == "discrete":
        return Discrete(inner.n, inner.start, dtype)
    shape = _shape(inner.shape, "Box" if kind == "box" else "MultiDiscrete")
    if kind == "box":
        return Box(_unbounds(inner.low, shape), _unbounds(inner.high, shape), dtype)
    if not len(inner.nvec) == len(inner.start) == math.prod(shape):
        raise ValueError(
            f"MultiDiscrete: expected {math.prod(shape)} nvec and start for shape {list(shape)}, "
            f"got {len(inner.nvec)} and {len(inner.start)}"
        )
    nvec, start = np.array(inner.nvec, np.int64), np.array(inner.start, np.int64)
    return MultiDiscrete(nvec.reshape(shape), start.reshape(shape), dtype)


def encode_spec(spec: PolicySpec) -> policy_pb2.PolicySpec:
    """Encodes a PolicySpec."""
    return policy_pb2.PolicySpec(
        observation_space=encode_space(spec.observation_space),
        action_space=encode_space(spec.action_space),
        distribution=_KINDS[spec.distribution],
        state_size=spec.state_size,
        mask_size=spec.mask_size,
        part_distributions=[_KINDS[kind] for kind in spec.part_distributions],
    )


def decode_spec(message: policy_pb2.PolicySpec) -> PolicySpec:
    """Decodes a PolicySpec message.

    Raises:
        UnsupportedSpaceError: This version does not support a space or a distribution of the message.
        ValueError: The numbers do not form a valid specification.
    """
    kinds = [message.distribution, *message.part_distributions]
    if unknown := [kind for kind in kinds if kind not in _KINDS_BACK]:
        raise UnsupportedSpaceError(f"this pgkeras does not know distribution kind {unknown[0]}")
    action_space = as_actions(decode_space(message.action_space))
    return PolicySpec(
        decode_space(message.observation_space),
        action_space,
        _KINDS_BACK[message.distribution],
        message.state_size,
        message.mask_size,
        tuple(_KINDS_BACK[kind] for kind in message.part_distributions),
    )


def spec_to_json(spec: PolicySpec) -> dict[str, Any]:
    """Encodes a PolicySpec as the JSON form of its message, for ``policy.json``."""
    return json_format.MessageToDict(encode_spec(spec))


def spec_from_json(data: dict[str, Any]) -> PolicySpec:
    """Decodes the result of :func:`spec_to_json`.

    Raises:
        ValueError: The JSON is not a PolicySpec.
        UnsupportedSpaceError: This version does not support a space or a distribution.
    """
    try:
        return decode_spec(json_format.ParseDict(data, policy_pb2.PolicySpec()))
    except json_format.ParseError as error:
        raise ValueError(str(error)) from error


def spec_hash(spec: PolicySpec) -> str:
    """Returns the hexadecimal SHA-256 of the specification's canonical JSON (sorted keys, no spaces)."""
    canonical = json.dumps(spec_to_json(spec), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def decode_distribution(message: policy_pb2.Distribution, field: str = "distribution") -> dict[str, Any]:
    """Decodes a Distribution message to arrays by parameter name. Returns an empty dictionary if it is not set.

    A structured distribution is decoded to nested dictionaries by the names of its parts.

    Raises:
        InvalidRequestError: A tensor is malformed.
    """
    kind = message.WhichOneof("kind")
    if kind is None:
        return {}
    if kind == "structured":
        parts = sorted(message.structured.parts.items())
        return {key: decode_distribution(part, f"{field}.{key}") for key, part in parts}
    inner = getattr(message, kind)
    names = DistributionKind(kind).parameters
    return {name: decode_tensor(getattr(inner, name), f"{field}.{kind}.{name}") for name in names}


def write_distribution(message: policy_pb2.Distribution, spec: PolicySpec, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes a distribution's parameters into an empty Distribution message.

    Args:
        message: The message.
        spec: The policy's specification.
        arrays: The parameters by their names in the act graph.
    """
    for part in spec.parts:
        place = message
        for key in part.path:
            place = place.structured.parts[key]
        inner = getattr(place, part.kind.value)
        for name, output in part.outputs.items():
            write_tensor(getattr(inner, name), arrays[output])


def decode_struct(message: struct_pb2.Struct) -> dict[str, Any]:
    """Decodes a Struct to a dictionary. Whole numbers become int, because JSON does not distinguish them."""
    return {key: _plain(value) for key, value in message.fields.items()}


def _plain(value: struct_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return decode_struct(value.struct_value)
    if kind == "list_value":
        return [_plain(item) for item in value.list_value.values]
    if kind == "number_value":
        return int(value.number_value) if value.number_value.is_integer() else value.number_value
    return None if kind in (None, "null_value") else getattr(value, kind)


def _bounds(bound: NDArray[np.float64]) -> list[float]:
    flat = bound.ravel()
    return flat[:1].tolist() if flat.size and (flat == flat[0]).all() else flat.tolist()


def _shape(lengths: Iterable[int], kind: str) -> tuple[int, ...]:
    shape = tuple(lengths)
    if len(shape) > _MAX_AXES or min(shape, default=0) < 0 or math.prod(shape) > _MAX_SPACE_SIZE:
        raise ValueError(
            f"{kind}: expected a shape of at most {_MAX_AXES} axes and {_MAX_SPACE_SIZE} elements, got {list(shape)}"
        )
    return shape


def _unbounds(values: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    bound = np.asarray(values, np.float64)
    size = math.prod(shape)
    if bound.size not in (1, size):
        raise ValueError(f"Box: expected 1 or {size} bounds for shape {list(shape)}, got {bound.size}")
    return np.full(shape, bound[0]) if bound.size == 1 else bound.reshape(shape)
