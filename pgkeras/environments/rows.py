"""Writes rewards into the rows of a tape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.errors import EnvironmentStepError
from pgkeras.spaces.layout import ACTION_MASK

__all__ = ["action_mask", "as_reward", "put_reward"]


def action_mask(observation: Any, info: Mapping[str, Any]) -> Any:
    """The action mask that an environment gives, in a Dict observation or in the info; None if it gives none."""
    if isinstance(observation, Mapping) and ACTION_MASK in observation:
        return observation[ACTION_MASK]
    return info.get(ACTION_MASK)


def put_reward(rewards: NDArray[np.float64], t: int, slot: int, reward: Any) -> None:
    """Writes one reward.

    Raises:
        EnvironmentStepError: It is no number.
    """
    rewards[t, slot] = reward if type(reward) in _NUMBERS else as_reward(reward)


def as_reward(reward: Any) -> float:
    """The number that a reward is: a number of Python's or NumPy's, or an array of one element.

    Raises:
        EnvironmentStepError: It is something else; the message has its type.
    """
    if isinstance(reward, int | float | np.number | np.bool_):
        return float(reward)
    array = np.asarray(reward) if hasattr(reward, "__array__") else None
    if array is None or array.size != 1 or array.dtype.kind not in "biuf":
        kind = type(reward).__name__
        raise EnvironmentStepError(f"expected a number as the reward, or an array of one, got {reward!r} ({kind})")
    return float(array.item())


_NUMBERS = frozenset({int, float, np.float32, np.float64})
