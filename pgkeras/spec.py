"""PolicySpec: what a policy consumes and produces, which is all that a caller has to know about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from pgkeras.layout import Layout
from pgkeras.spaces import ArraySpace, Box, Space

__all__ = ["DistributionKind", "PolicySpec"]


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
        mask_size: Length of an action mask; 0 for a policy that takes none.
    """

    observation_space: Space
    action_space: ArraySpace
    distribution: DistributionKind
    state_size: int = 0
    mask_size: int = 0

    @cached_property
    def layout(self) -> Layout:
        """How observations, with their masks, are laid out for the act graph."""
        return Layout.of(self.observation_space, self.mask_size)

    @property
    def noise_size(self) -> int:
        """How many numbers of noise one action takes: 1 uniform, or one standard normal per component."""
        if self.distribution is DistributionKind.CATEGORICAL:
            return 1
        assert isinstance(self.action_space, Box)
        return int(self.action_space.low.size)

    def from_graph(self, action: NDArray[Any]) -> NDArray[Any]:
        """Actions as the act graph gives them in the action space's dtype; no copy where none is needed."""
        return action.astype(self.action_space.dtype, copy=False)
