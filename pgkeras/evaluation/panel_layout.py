"""Layout of the distribution panel: which parts and components of an action fit, and their heights."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from pgkeras.spaces import Discrete, MultiDiscrete
from pgkeras.spaces.spec import ActionPart

__all__ = ["HEAD", "LEAST_ROW", "components", "heights", "wanted_height"]

HEAD = 22  # height of a part's name
LEAST_ROW = 18  # minimum height of a bar with its labels
_ROW = 24  # preferred height of a bar
_MAX_ROWS = 8  # per part
_MIN_COLUMNS = 54  # minimum height of a chart with columns
_MIN_DENSITY = 12  # minimum height of a density
_MIN_DENSITIES = 4  # per part, if it has as many


def components(count: int, height: int) -> int:
    """Returns the number of components of a continuous distribution that fit, at least one."""
    return max(1, min(count, height // _MIN_DENSITY))


def heights(parts: Sequence[ActionPart], room: int) -> list[int]:
    """Returns the heights of the first parts' distributions, for as many parts as fit."""
    ends = list(accumulate(HEAD + _least_height(part) for part in parts))
    shown = parts[: max(1, bisect_right(ends, room))]
    least = [_least_height(part) for part in shown]
    more = [wanted_height(part) - one for part, one in zip(shown, least, strict=True)]
    left = max(0, room - ends[len(shown) - 1])
    return [low + min(one, left * one // max(1, sum(more))) for low, one in zip(least, more, strict=True)]


def wanted_height(part: ActionPart) -> int:
    """Returns the preferred height of a part: a row per probability, or a density per component."""
    rows = _rows(part) if part.kind.is_discrete else 2 * math.prod(part.space.shape)
    return min(_MAX_ROWS, rows) * _ROW


def _least_height(part: ActionPart) -> int:
    if not part.kind.is_discrete:
        return min(_MIN_DENSITIES, math.prod(part.space.shape)) * _MIN_DENSITY
    return min(_MIN_COLUMNS, _rows(part) * LEAST_ROW)


def _rows(part: ActionPart) -> int:
    space = part.space
    if isinstance(space, MultiDiscrete):
        return int(space.nvec.sum())
    return space.n if isinstance(space, Discrete) else math.prod(space.shape)
