"""Writes rewards into the rows of a tape."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.errors import EnvironmentStepError

__all__ = ["put_reward"]


def put_reward(rewards: NDArray[np.float64], t: int, slot: int, reward: Any) -> None:
    """Writes one reward.

    Raises:
        EnvironmentStepError: It is no number.
    """
    try:
        rewards[t, slot] = reward
    except (TypeError, ValueError) as error:
        raise EnvironmentStepError(f"expected a number as the reward, got {reward!r}") from error
