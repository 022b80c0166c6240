"""Spaces of texts and of structured values: Text, Dict and Tuple."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pgkeras.errors import InvalidRequestError, UnsupportedSpaceError
from pgkeras.spaces import arrays
from pgkeras.spaces.arrays import ArraySpace, Box, MultiDiscrete

if TYPE_CHECKING:
    import gymnasium

__all__ = [
    "ActionSpace",
    "Dict",
    "Space",
    "Text",
    "Tuple",
    "actions_from_gymnasium",
    "as_gymnasium",
    "count",
    "leaves",
    "map_texts",
    "observations_from_gymnasium",
    "parts",
    "refuse_too_many_choices",
]

_NO_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class Text:
    """Strings.

    Two Text spaces are equal if they contain the same strings. The vocabulary is not compared, because it only
    describes how a policy reads them.

    Args:
        min_length: Minimum number of characters.
        max_length: Maximum number of characters.
        charset: The allowed characters, sorted; empty if all are allowed.
        vocabulary: The tokens that a policy distinguishes; see :mod:`pgkeras.spaces.tokenizer`.
        max_tokens: Number of tokens that a policy reads; the rest of a text is ignored.
    """

    min_length: int = 0
    max_length: int = _NO_LIMIT
    charset: str = ""
    vocabulary: tuple[str, ...] = field(default=(), compare=False)
    max_tokens: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return "Text()" if self.max_length == _NO_LIMIT else f"Text({self.min_length}, {self.max_length})"

    def batched(self, value: Any, field: str = "observation") -> tuple[list[str], bool]:
        """Validates one string or a batch of strings.

        Returns:
            The strings, and whether they were given as a batch.

        Raises:
            InvalidRequestError: The batch is empty, a value is not a string, or a string has an invalid length or
                character.
        """
        single = isinstance(value, str)
        texts = [value] if single else list(value) if isinstance(value, Iterable) else [value]
        if not texts:
            raise InvalidRequestError(field, "at least one text", "an empty batch")
        for text in texts:
            if not isinstance(text, str):
                raise InvalidRequestError(field, "a text, or a batch of texts", type(text).__name__)
            if not self.min_length <= len(text) <= self.max_length:
                expected = f"texts of {self.min_length} to {self.max_length} characters"
                raise InvalidRequestError(field, expected, f"{len(text)} characters")
            if self.charset and (strange := set(text) - set(self.charset)):
                raise InvalidRequestError(field, f"only the characters {self.charset!r}", repr(min(strange)))
        return texts, not single


@dataclass(frozen=True, eq=False)
class Dict:
    """Mappings from keys to values. Each key has a space.

    Two Dict spaces with the same parts in another order are different, because their encodings differ.

    Args:
        spaces: The parts by key, in the order of their encoding.
    """

    spaces: Mapping[str, Space]

    def __str__(self) -> str:
        return "Dict(" + ", ".join(f"{key}: {space}" for key, space in self.spaces.items()) + ")"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dict) and list(self.spaces.items()) == list(other.spaces.items())

    def __hash__(self) -> int:
        return hash(tuple(self.spaces.items()))

    def batched(self, value: Any, field: str = "observation") -> tuple[dict[str, Any], bool]:
        """Validates one value or a batch, in which every leaf has a leading axis, and adds the axis if it is missing.

        Raises:
            InvalidRequestError: A part is missing, unknown or invalid; the error names it.
        """
        if not isinstance(value, Mapping):
            raise InvalidRequestError(field, f"parts named {', '.join(self.spaces)}", type(value).__name__)
        return _batched_parts(self.spaces, value, field)


@dataclass(frozen=True)
class Tuple:
    """A fixed number of values. Each has a space.

    Args:
        spaces: The parts in order.
    """

    spaces: tuple[Space, ...]

    def __str__(self) -> str:
        return "Tuple(" + ", ".join(map(str, self.spaces)) + ")"

    def batched(self, value: Any, field: str = "observation") -> tuple[dict[str, Any], bool]:
        """Validates one value or a batch: a sequence, or a mapping by the parts' indices; see :meth:`Dict.batched`."""
        if isinstance(value, Sequence) and not isinstance(value, str):
            value = {str(i): part for i, part in enumerate(value)}
        if not isinstance(value, Mapping):
            raise InvalidRequestError(field, f"{len(self.spaces)} parts", type(value).__name__)
        return _batched_parts(parts(self), value, field)


Space = ArraySpace | Text | Dict | Tuple
ActionSpace = ArraySpace | Dict | Tuple
"""Action spaces: arrays, and Dict or Tuple of arrays."""

_OBSERVATION_ADVICE = (
    "pgkeras supports observations of Box, Discrete, MultiDiscrete, MultiBinary and Text, and of Dict and Tuple of "
    "these. Convert it with gymnasium.wrappers.TransformObservation, for example a sequence or a graph to a padded Box "
    "of fixed shape."
)
_ACTION_ADVICE = (
    "pgkeras supports actions of Box, Discrete, MultiDiscrete and MultiBinary, and of Dict and Tuple of these. Convert "
    "it with gymnasium.wrappers.TransformAction, for example a OneOf to a Discrete."
)
_MAX_CHOICES = 100_000


def observations_from_gymnasium(space: gymnasium.Space[Any], path: str = "") -> Space:
    """Converts the space of an environment's observations.

    Args:
        space: The space, or a part of it.
        path: The part's path, such as "robot.arm".

    Raises:
        UnsupportedSpaceError: pgkeras does not support the space, or a part of it.
    """
    from gymnasium import spaces

    if (structure := _structure_from_gymnasium(space, path, "observation", observations_from_gymnasium)) is not None:
        return structure
    if isinstance(space, spaces.Text):
        return Text(space.min_length, space.max_length, "".join(sorted(space.character_set)))
    if space.dtype is not None and np.dtype(space.dtype).kind == "U":  # such as MiniGrid's MissionSpace
        return Text()
    where = f"observation space, part {path}:" if path else "observation space"
    return arrays.from_gymnasium(space, where, _OBSERVATION_ADVICE, "gymnasium.wrappers.DtypeObservation")


def actions_from_gymnasium(space: gymnasium.Space[Any], path: str = "") -> ActionSpace:
    """Converts the space of an environment's actions. A Box of integers becomes a MultiDiscrete.

    Args:
        space: The space, or a part of it.
        path: The part's path, such as "hand.grip".

    Raises:
        UnsupportedSpaceError: pgkeras does not support the space, or a part of it, or a Box has too many integers.
    """
    if (structure := _structure_from_gymnasium(space, path, "action", actions_from_gymnasium)) is not None:
        return structure
    where = f"action space, part {path}:" if path else "action space"
    found = arrays.from_gymnasium(space, where, _ACTION_ADVICE, "gymnasium.wrappers.TransformAction")
    return _as_choices(found) if isinstance(found, Box) and found.dtype.kind in "iu" and found.low.size else found


def _structure_from_gymnasium(
    space: gymnasium.Space[Any], path: str, role: str, convert: Callable[[gymnasium.Space[Any], str], Any]
) -> Dict | Tuple | None:
    """Converts a Dict or Tuple, with ``convert(part, path)`` for its parts. Returns None for other spaces."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        _check_keys(space, role)
        return Dict({key: convert(part, _inner(path, key)) for key, part in space.spaces.items()})
    if isinstance(space, spaces.Tuple):
        _check_parts(space, role)
        return Tuple(tuple(convert(part, _inner(path, str(i))) for i, part in enumerate(space.spaces)))
    return None


def _check_parts(space: Any, role: str) -> None:
    if not space.spaces:
        raise UnsupportedSpaceError(f"{role} space, a {type(space).__name__}, is not supported: it has no parts")


def _check_keys(space: Any, role: str) -> None:
    _check_parts(space, role)
    if invalid := [key for key in space.spaces if not isinstance(key, str)]:
        raise UnsupportedSpaceError(
            f"{role} space {space} is not supported: its key {invalid[0]!r} is not a string; use strings as keys"
        )
    if any("." in key for key in space.spaces):
        raise UnsupportedSpaceError(f"{role} space {space} is not supported: keys must not contain '.'")


def _as_choices(box: Box) -> MultiDiscrete:
    counts = box.high - box.low + 1  # in float64, because the range may exceed int64
    refuse_too_many_choices(box, float(counts.sum()))
    return MultiDiscrete(counts.astype(np.int64), box.low.astype(np.int64), box.dtype)


def refuse_too_many_choices(space: ArraySpace, choices: float) -> None:
    """Checks that the weights for all choices of an action space fit into memory.

    Raises:
        UnsupportedSpaceError: There are too many choices.
    """
    if choices > _MAX_CHOICES:
        raise UnsupportedSpaceError(
            f"action space {space} is not supported: it has {choices:,.0f} integers to choose from, at most "
            f"{_MAX_CHOICES:,} are allowed because each has weights; convert it to a Box of floats with "
            "gymnasium.wrappers.TransformAction"
        )


def _inner(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def map_texts(
    space: Space, function: Callable[[Text, tuple[str, ...]], Text], path: tuple[str, ...] = ()
) -> Any:  # the same kind of space, which the type system cannot express
    """Returns the space with every Text in it replaced by ``function(text, path)``."""
    if isinstance(space, Text):
        return function(space, path)
    if isinstance(space, Dict):
        return Dict({key: map_texts(part, function, (*path, key)) for key, part in space.spaces.items()})
    if isinstance(space, Tuple):
        return Tuple(tuple(map_texts(part, function, (*path, str(i))) for i, part in enumerate(space.spaces)))
    return space


def _batched_parts(spaces: Mapping[str, Space], value: Mapping[str, Any], field: str) -> tuple[dict[str, Any], bool]:
    if unknown := sorted(set(value) - set(spaces)):
        raise InvalidRequestError(f"{field}.{unknown[0]}", f"only the parts {', '.join(spaces)}", "another one")
    batched: dict[str, Any] = {}
    batch: tuple[str, bool, int] | None = None  # the first part's name, whether it is a batch, and its length
    # Arrays first, because a list of one text may be one value or a batch of one.
    for key, space in sorted(spaces.items(), key=lambda item: _has_only_texts(item[1])):
        if key not in value:
            raise InvalidRequestError(f"{field}.{key}", str(space), "nothing")
        part, has_batch_axis = space.batched(value[key], f"{field}.{key}")
        rows = count(part)
        if _has_only_texts(space) and rows == 1 and batch is not None:
            has_batch_axis = batch[1]
        batch = batch or (key, has_batch_axis, rows)
        if (has_batch_axis, rows) != batch[1:]:
            expected = f"a batch of {batch[2]}, like {batch[0]}" if batch[1] else f"a single value, like {batch[0]}"
            raise InvalidRequestError(f"{field}.{key}", expected, f"a batch of {rows}" if has_batch_axis else "one")
        batched[key] = part
    if batch is None:
        raise InvalidRequestError(field, "at least one part", "none")
    return batched, batch[1]


def _has_only_texts(space: Space) -> bool:
    return all(isinstance(leaf, Text) for _, leaf in leaves(space))


def parts(space: Space) -> Mapping[str, Space]:
    """Returns the parts of a Dict by key, or of a Tuple by index; empty for other spaces."""
    if isinstance(space, Dict):
        return space.spaces
    return {str(i): part for i, part in enumerate(space.spaces)} if isinstance(space, Tuple) else {}


def leaves(space: Space, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], ArraySpace | Text]]:
    """Yields the arrays and texts of a space in order, each with its path of keys."""
    if isinstance(space, Dict | Tuple):
        for key, part in parts(space).items():
            yield from leaves(part, (*path, key))
    else:
        yield path, space


def as_gymnasium(value: Any, space: Space) -> Any:
    """Converts a value to gymnasium's form, in which the values of Tuple spaces are tuples."""
    if isinstance(space, Tuple):
        return tuple(as_gymnasium(value[key], part) for key, part in parts(space).items())
    if isinstance(space, Dict):
        return {key: as_gymnasium(value[key], part) for key, part in space.spaces.items()}
    return value


def count(batch: Any) -> int:
    """Returns the number of values in a batch, as returned by ``batched``."""
    while isinstance(batch, Mapping):
        batch = next(iter(batch.values()))
    return len(batch)
