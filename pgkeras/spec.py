"""PolicySpec: what a policy consumes and produces, which is all that a caller has to know about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.spaces import Box, Space

__all__ = ["DistributionKind", "PolicySpec", "graph_dtype"]


class DistributionKind(Enum):
    """The family of a policy's action distribution; the values name it in files and on the command line."""

    CATEGORICAL = "categorical"
    DIAGONAL_GAUSSIAN = "diagonal_gaussian"

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the distribution's parameters, as the act graph puts them out."""
        return ("probabilities",) if self is DistributionKind.CATEGORICAL else ("mean", "stddev")


@dataclass(frozen=True)
class PolicySpec:
    """What a policy consumes and produces.

    Args:
        observation_space: What the policy observes.
        action_space: What the policy does.
        distribution: The family of its action distribution.
        state_size: Length of the recurrent state, in float32 elements; 0 for a policy without memory.
    """

    observation_space: Space
    action_space: Space
    distribution: DistributionKind
    state_size: int = 0

    @property
    def noise_size(self) -> int:
        """How many numbers of noise one action takes: 1 uniform, or one standard normal per component."""
        if self.distribution is DistributionKind.CATEGORICAL:
            return 1
        assert isinstance(self.action_space, Box)
        return int(self.action_space.low.size)

    def to_graph(self, observation: NDArray[Any]) -> NDArray[Any]:
        """Observations of the observation space's dtype as the act graph takes them; no copy where none is needed."""
        return observation.astype(graph_dtype(observation.dtype), copy=False)

    def from_graph(self, action: NDArray[Any]) -> NDArray[Any]:
        """Actions as the act graph gives them in the action space's dtype; no copy where none is needed."""
        return action.astype(self.action_space.dtype, copy=False)


def graph_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which the act graph holds a space's values: uint8, int64 or float32."""
    if dtype == np.uint8:
        return dtype
    return np.dtype(np.float32 if dtype.kind == "f" else np.int64)
