"""Message patterns: reads and writes messages with a known layout, without a parser.

A simulator sends the same message again and again with different numbers. After one of them has been parsed and found
valid, later messages of the same length are only compared with it, byte by byte, outside the values that may differ.
The bytes before a value encode its length, so a value cannot change how the rest is parsed. A message that matches a
pattern therefore parses to the same message, except for its values.

The format: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

__all__ = ["FieldPath", "Pattern", "Patterns", "number", "varint"]

_Meaning = TypeVar("_Meaning")
_Match = Callable[[bytes], "re.Match[bytes] | None"]

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5
_FIXED = {_I64: 8, _I32: 4}
_MORE = 0x80
_MAX_FIXED_BYTES = 2048
_MAX_LENGTHS = 256
_MAX_VARINTS = 1024
_MAX_PER_LENGTH = 8


class FieldPath(NamedTuple):
    """The path of a value in a message.

    Args:
        path: Field numbers, outermost message first.
        is_integer: Whether the value is an integer; otherwise it is a byte string.
        byte: Regular expression that each byte of the string matches.
    """

    path: tuple[int, ...]
    is_integer: bool
    byte: bytes

    @classmethod
    def of(cls, kind: type[Message], names: str, byte: bytes = b".") -> FieldPath:
        """Returns the path of a field, given its dotted name such as "observation.tensor.data"."""
        descriptor: Any = kind.DESCRIPTOR
        path = []
        for name in names.split("."):
            field = descriptor.fields_by_name[name]
            path.append(field.number)
            descriptor = field.message_type
        return cls(tuple(path), field.type == FieldDescriptor.TYPE_UINT64, byte)


class Pattern:
    """The layout of a message: its constant bytes, and the positions of its values.

    Args:
        message: A valid encoded message.
        values: Paths of the values by name. Values that the message does not have are ignored.

    Raises:
        ValueError: A field on the path of a value is repeated or has another wire type, so only the parser can decide
            which one counts. Or there are too many constant bytes to keep, for example in unknown fields.
    """

    def __init__(self, message: bytes, values: Mapping[str, FieldPath]) -> None:
        spans = {name: _find(message, 0, len(message), *place[:2]) for name, place in values.items()}
        found = sorted((*span, name) for name, span in spans.items() if span is not None)
        if len(message) - sum(stop - start for start, stop, _ in found) > _MAX_FIXED_BYTES:
            raise ValueError(f"more than {_MAX_FIXED_BYTES} bytes outside the values")
        self._parts: list[bytes] = []
        expression, at = b"", 0
        for start, stop, name in found:
            piece, size = message[at:start], stop - start
            value = b"%s{%d}" % (values[name].byte, size)
            if values[name].is_integer:
                value = rb"[\x80-\xff]{%d}[\x00-\x7f]" % (size - 1)
            expression += re.escape(piece) + b"(?P<%s>%s)" % (name.encode(), value)
            self._parts += [piece, b""]
            at = stop
        self._parts.append(message[at:])
        self.names = tuple(name for *_, name in found)
        self._expression = expression + re.escape(message[at:])

    @functools.cached_property
    def match(self) -> _Match:
        """Matches messages with this layout. The groups of a match are the values by name."""
        # Compiled on first use, because a pattern that is only written needs no expression.
        return re.compile(self._expression, re.DOTALL).fullmatch

    def write(self, values: Iterable[bytes]) -> bytes:
        """Encodes the message with new values, in the order of ``names``, each as long as the original value."""
        parts = self._parts.copy()
        parts[1::2] = values
        return b"".join(parts)


class Patterns(Generic[_Meaning]):
    """Cache of message patterns, each with the decoded meaning of its message.

    Args:
        values: Paths of the values, by name.
    """

    def __init__(self, values: Mapping[str, FieldPath]) -> None:
        self._values = values
        self._known: dict[int, list[tuple[_Match, _Meaning]]] = {}

    def read(self, message: bytes) -> tuple[_Meaning, dict[str, bytes]] | None:
        """Returns a message's meaning and its values, or None if no pattern matches."""
        for match, meaning in self._known.get(len(message), ()):
            if found := match(message):
                return meaning, found.groupdict()
        return None

    def learn(self, message: bytes, meaning: _Meaning) -> None:
        """Adds the pattern of a valid message, unless the cache is full or the message has no usable pattern."""
        known = self._known.get(len(message), [])
        if len(known) == _MAX_PER_LENGTH or (not known and len(self._known) == _MAX_LENGTHS):
            return
        try:
            known.append((Pattern(message, self._values).match, meaning))
        except ValueError:
            return
        self._known[len(message)] = known


def number(value: bytes) -> int:
    """Decodes a varint."""
    result = 0
    for byte in reversed(value):
        result = result << 7 | byte & 0x7F
    return result & 0xFFFFFFFFFFFFFFFF


@functools.lru_cache(_MAX_VARINTS)
def varint(value: int) -> bytes:
    """Encodes a non-negative integer as a varint."""
    digits = bytearray()
    while value >= _MORE:
        digits.append(value & 0x7F | _MORE)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def _find(message: bytes, start: int, stop: int, path: tuple[int, ...], is_integer: bool) -> tuple[int, int] | None:
    """Returns the start and the end of the value at a path, or None if the message does not have it."""
    wanted, *rest = path
    found = None
    while start < stop:
        key, at = _varint_at(message, start)
        field, kind = key >> 3, key & 7
        if kind == _VARINT:
            _, end = _varint_at(message, at)
        elif kind == _LEN:
            length, at = _varint_at(message, at)
            end = at + length
        elif kind in _FIXED:
            end = at + _FIXED[kind]
        else:
            raise ValueError("a group")
        if field == wanted:
            if found is not None:
                raise ValueError(f"field {field} is repeated")
            if kind != (_VARINT if is_integer and not rest else _LEN):
                raise ValueError(f"field {field} has another wire type")
            found = at, end
        start = end
    return _find(message, *found, tuple(rest), is_integer) if found and rest else found


def _varint_at(message: bytes, at: int) -> tuple[int, int]:
    end = at
    while message[end] >= _MORE:
        end += 1
    return number(message[at : end + 1]), end + 1
