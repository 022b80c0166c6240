"""Describes the difference between two spaces, for error messages."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pgkeras.errors import InvalidRequestError
from pgkeras.spaces.arrays import ArraySpace, Box
from pgkeras.spaces.structures import Dict, Space, Text, Tuple, parts

__all__ = ["check_same", "difference"]


def difference(one: Space, other: Space) -> str:
    """Returns the first difference between two spaces, such as "shape (4,) and (3,)"; empty if they are equivalent.

    Bounds are compared in the space's dtype, because a client may have computed them in another.
    """
    if type(one) is not type(other):
        return f"{one} and {other}"
    if isinstance(one, Dict | Tuple) and isinstance(other, Dict | Tuple):
        return _of_parts(parts(one), parts(other))
    if isinstance(one, Box) and isinstance(other, Box):
        return _of_boxes(one, other)
    assert isinstance(one, ArraySpace | Text)
    return "" if one == other else f"{one} and {other}"


def check_same(field: str, whose: str, expected: Space, given: Space) -> None:
    """Checks that a declared space equals the expected one.

    Args:
        field: Field of the declaration.
        whose: Owner of the expected space in error messages, such as "the policy's".
        expected: The expected space.
        given: The declared space.

    Raises:
        InvalidRequestError: The spaces differ; the error has both, and their first difference.
    """
    if found := difference(expected, given):
        raise InvalidRequestError(field, f"{whose}, {expected}", f"{given} (they differ: {found})")


def _of_parts(one: Mapping[str, Space], other: Mapping[str, Space]) -> str:
    if list(one) != list(other):
        return f"parts {', '.join(map(repr, one))} and {', '.join(map(repr, other))}"
    found = ((name, difference(part, other[name])) for name, part in one.items())
    return next((f"part {name!r}: {what}" for name, what in found if what), "")


def _of_boxes(one: Box, other: Box) -> str:
    for name in ("dtype", "shape"):
        if getattr(one, name) != getattr(other, name):
            return f"{name} {getattr(one, name)} and {getattr(other, name)}"
    for name in ("low", "high"):
        mine, yours = (np.asarray(getattr(box, name), np.float64).ravel() for box in (one, other))
        if one.dtype.kind == "f":
            with np.errstate(over="ignore"):
                mine, yours = mine.astype(one.dtype), yours.astype(one.dtype)
        if (mine != yours).any():
            i = int(np.argmax(mine != yours))
            return f"bound {name}[{i}] {mine[i]} and {yours[i]}"
    return ""
