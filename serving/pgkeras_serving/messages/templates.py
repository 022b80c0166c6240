"""Message templates: reads and writes messages whose layout is known, without a parser.

A simulator sends the same message over and over, with other numbers in it. Once one has been parsed and found right,
the next of its length needs only to be compared with it, byte by byte, outside of the values that may differ. As the
bytes before a value say how long it is, what lies in a value cannot change how the rest is read: a message that fits a
pattern is parsed to the same message, but for its values.

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
_MOST_FIXED = 2048
_MOST_LENGTHS = 256
_MOST_VARINTS = 1024
_MOST_PER_LENGTH = 8


class FieldPath(NamedTuple):
    """The path of a value in a message.

    Args:
        path: Field numbers, from the outermost in.
        is_integer: Whether it is an integer; it is a string of bytes otherwise.
        byte: A regular expression for each byte of a string.
    """

    path: tuple[int, ...]
    is_integer: bool
    byte: bytes

    @classmethod
    def of(cls, kind: type[Message], names: str, byte: bytes = b".") -> FieldPath:
        """The path of a field of a kind of message, such as "observation.tensor.data"."""
        descriptor: Any = kind.DESCRIPTOR
        path = []
        for name in names.split("."):
            field = descriptor.fields_by_name[name]
            path.append(field.number)
            descriptor = field.message_type
        return cls(tuple(path), field.type == FieldDescriptor.TYPE_UINT64, byte)


class Pattern:
    """A message cut at its values.

    Args:
        message: Bytes that have been parsed, so that their format is right.
        values: Paths by name; values that the message has not are left out.

    Raises:
        ValueError: What is on the way to a value is there twice, or is something else; what counts then is for the
            parser to know. Or there is too much around the values to keep: anybody may fill a message with fields that
            nobody reads.
    """

    def __init__(self, message: bytes, values: Mapping[str, FieldPath]) -> None:
        spans = {name: _find(message, 0, len(message), *place[:2]) for name, place in values.items()}
        found = sorted((*span, name) for name, span in spans.items() if span is not None)
        if len(message) - sum(stop - start for start, stop, _ in found) > _MOST_FIXED:
            raise ValueError(f"more than {_MOST_FIXED} bytes beside the values")
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
        """Matches a message that fits; its groups are the values, by name."""
        # Made when it is first asked for: a pattern that is only written needs no expression.
        return re.compile(self._expression, re.DOTALL).fullmatch

    def write(self, values: Iterable[bytes]) -> bytes:
        """The message with other values, in the order of ``names``, each as long as the one that was there."""
        parts = self._parts.copy()
        parts[1::2] = values
        return b"".join(parts)


class Patterns(Generic[_Meaning]):
    """Patterns of what came before, each with what it means.

    Args:
        values: Paths of the values, by name.
    """

    def __init__(self, values: Mapping[str, FieldPath]) -> None:
        self._values = values
        self._known: dict[int, list[tuple[_Match, _Meaning]]] = {}

    def read(self, message: bytes) -> tuple[_Meaning, dict[str, bytes]] | None:
        """Returns a message's meaning and its values, or None if no template matches."""
        for match, meaning in self._known.get(len(message), ()):
            if found := match(message):
                return meaning, found.groupdict()
        return None

    def learn(self, message: bytes, meaning: _Meaning) -> None:
        """Remembers what a message means that was found right; not if there are many patterns already."""
        known = self._known.get(len(message), [])
        if len(known) == _MOST_PER_LENGTH or (not known and len(self._known) == _MOST_LENGTHS):
            return
        try:
            known.append((Pattern(message, self._values).match, meaning))
        except ValueError:
            return
        self._known[len(message)] = known


def number(value: bytes) -> int:
    """The integer in the bytes of a varint."""
    result = 0
    for byte in reversed(value):
        result = result << 7 | byte & 0x7F
    return result & 0xFFFFFFFFFFFFFFFF


@functools.lru_cache(_MOST_VARINTS)
def varint(value: int) -> bytes:
    """A non-negative integer as bytes."""
    digits = bytearray()
    while value >= _MORE:
        digits.append(value & 0x7F | _MORE)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def _find(message: bytes, start: int, stop: int, path: tuple[int, ...], is_integer: bool) -> tuple[int, int] | None:
    """Where the value at a path begins and ends; None if it is not there."""
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
                raise ValueError(f"field {field} is there twice")
            if kind != (_VARINT if is_integer and not rest else _LEN):
                raise ValueError(f"field {field} is of another type")
            found = at, end
        start = end
    return _find(message, *found, tuple(rest), is_integer) if found and rest else found


def _varint_at(message: bytes, at: int) -> tuple[int, int]:
    end = at
    while message[end] >= _MORE:
        end += 1
    return number(message[at : end + 1]), end + 1
