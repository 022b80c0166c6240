"""Reads rewards and action masks from an environment's return values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.errors import EnvironmentStepError
from pgkeras.spaces.layout import ACTION_MASK

__all__ = ["action_mask", "as_reward", "put_reward"]


def action_mask(observation: Any, info: Mapping[str, Any]) -> Any:
    """Returns the action mask from a Dict observation or from the info; None if there is no mask."""
    if isinstance(observation, Mapping) and ACTION_MASK in observation:
        return observation[ACTION_MASK]
    return info.get(ACTION_MASK)


def put_reward(rewards: NDArray[np.float64], t: int, slot: int, reward: Any) -> None:
    """Writes one reward.

    Raises:
        EnvironmentStepError: The reward is not a number.
    """
    rewards[t, slot] = reward if type(reward) in _NUMBERS else as_reward(reward)


def as_reward(reward: Any) -> float:
    """Returns a reward as a float. It may be a Python or NumPy number, or an array of one element.

    Raises:
        EnvironmentStepError: The reward is something else; the message names its type.
    """
    if isinstance(reward, int | float | np.number | np.bool_):
        return float(reward)
    array = np.asarray(reward) if hasattr(reward, "__array__") else None
    if array is None or array.size != 1 or array.dtype.kind not in "biuf":
        kind = type(reward).__name__
        raise EnvironmentStepError(f"expected a number as reward, or an array of one element, got {reward!r} ({kind})")
    return float(array.item())


_NUMBERS = frozenset({int, float, np.float32, np.float64})
