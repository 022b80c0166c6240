"""Room: which parts and components of an action fit into a frame, and how high each of them is."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from pgkeras.spaces import Discrete, MultiDiscrete
from pgkeras.spaces.spec import ActionPart

__all__ = ["HEAD", "LEAST_ROW", "components", "heights", "wanted_height"]

HEAD = 22  # height of a part's name
LEAST_ROW = 18  # of a probability's bar with its labels
_ROW = 24  # of each bar of a part
_MOST_ROWS = 8  # of a part
_LEAST_COLUMNS = 54  # of probabilities beside each other
_LEAST_DENSITY = 12
_LEAST_DENSITIES = 4  # of a part, if it has as many


def components(count: int, height: int) -> int:
    """How many of a continuous distribution's components can be drawn below each other; at least one."""
    return max(1, min(count, height // _LEAST_DENSITY))


def heights(parts: Sequence[ActionPart], room: int) -> list[int]:
    """How high the distributions of the first parts are drawn, each below its name: of as many parts as fit."""
    ends = list(accumulate(HEAD + _least_height(part) for part in parts))
    shown = parts[: max(1, bisect_right(ends, room))]
    least = [_least_height(part) for part in shown]
    more = [wanted_height(part) - one for part, one in zip(shown, least, strict=True)]
    left = max(0, room - ends[len(shown) - 1])
    return [low + min(one, left * one // max(1, sum(more))) for low, one in zip(least, more, strict=True)]


def wanted_height(part: ActionPart) -> int:
    """How much room a part of an action takes: a row for each probability, or a density for each component."""
    rows = _rows(part) if part.kind.is_discrete else 2 * math.prod(part.space.shape)
    return min(_MOST_ROWS, rows) * _ROW


def _least_height(part: ActionPart) -> int:
    if not part.kind.is_discrete:
        return min(_LEAST_DENSITIES, math.prod(part.space.shape)) * _LEAST_DENSITY
    return min(_LEAST_COLUMNS, _rows(part) * LEAST_ROW)


def _rows(part: ActionPart) -> int:
    space = part.space
    if isinstance(space, MultiDiscrete):
        return int(space.nvec.sum())
    return space.n if isinstance(space, Discrete) else math.prod(space.shape)
