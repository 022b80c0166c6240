"""Writing observations and rewards to the rows of a tape."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.errors import EnvironmentStepError

__all__ = ["kept", "put", "put_reward"]


def put(observations: NDArray[Any], t: int, slot: int | slice, observation: Any) -> None:
    """Writes one observation, or all of a step; refuses what would be broadcast to fit, or lose its fractions."""
    row = observations[t, slot, ...]
    array = observation if isinstance(observation, np.ndarray) else np.asarray(observation)
    if array.shape != row.shape:
        raise ValueError(f"expected an observation of shape {row.shape}, got {array.shape}")
    if array.dtype == row.dtype:
        row[...] = array
    else:
        np.copyto(row, array, casting="same_kind")


def kept(observations: NDArray[Any], observation: Any) -> NDArray[Any]:
    """A copy of an observation that no row is for, as a row; see :func:`put`."""
    row = np.empty((1, 1, *observations.shape[2:]), observations.dtype)
    put(row, 0, 0, observation)
    return np.asarray(row[0, 0])


def put_reward(rewards: NDArray[np.float64], t: int, slot: int, reward: Any) -> None:
    """Writes one reward.

    Raises:
        EnvironmentStepError: It is no number.
    """
    try:
        rewards[t, slot] = reward
    except (TypeError, ValueError) as error:
        raise EnvironmentStepError(f"expected a number as the reward, got {reward!r}") from error
