"""Random actions under an action mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from pgkeras.errors import UnsupportedSpaceError
from pgkeras.spaces import actions_from_gymnasium
from pgkeras.spaces.masks import flat_mask, mask_parts, mask_size_of

__all__ = ["random_action"]


def random_action(space: gymnasium.Space[Any], mask: Any = None) -> Any:
    """Draws a random action that the mask allows, with the space's generator.

    An invalid mask is ignored here; the collector reports it.
    """
    if mask is None:
        return space.sample()
    try:
        actions = actions_from_gymnasium(space)
        flat = flat_mask(mask, actions, 0)
        if flat.shape != (mask_size_of(actions),):
            return space.sample()
    except (ValueError, UnsupportedSpaceError):
        return space.sample()
    ends = {part.path: np.cumsum(part.nvec)[:-1] for part in mask_parts(actions)}
    parts = {part.path: np.split(flat[part.start : part.stop], ends[part.path]) for part in mask_parts(actions)}
    return _draw(space, parts)


def _draw(space: gymnasium.Space[Any], allowed: Mapping[tuple[str, ...], Any], path: tuple[str, ...] = ()) -> Any:
    if isinstance(space, gymnasium.spaces.Dict):
        return {key: _draw(part, allowed, (*path, key)) for key, part in space.spaces.items()}
    if isinstance(space, gymnasium.spaces.Tuple):
        return tuple(_draw(part, allowed, (*path, str(i))) for i, part in enumerate(space.spaces))
    masks = allowed.get(path, ())
    if not (isinstance(space, gymnasium.spaces.Discrete | gymnasium.spaces.MultiDiscrete) and all(map(np.any, masks))):
        return space.sample()
    drawn = np.array([space.np_random.choice(np.flatnonzero(mask)) for mask in masks])
    return space.start + drawn.reshape(space.shape).astype(space.dtype)
