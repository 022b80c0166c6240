"""PolicySpec: what a policy consumes and produces. A caller needs to know nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pgkeras.errors import InvalidRequestError
from pgkeras.spaces import ArraySpace, Discrete, MultiDiscrete, Space
from pgkeras.spaces.layout import Layout

__all__ = ["DistributionKind", "PolicySpec", "check_mask", "mask_size_of"]


class DistributionKind(Enum):
    """The family of a policy's action distribution; the values name it in files and on the command line."""

    CATEGORICAL = "categorical"
    DIAGONAL_GAUSSIAN = "diagonal_gaussian"
    MULTI_CATEGORICAL = "multi_categorical"
    MULTI_BERNOULLI = "multi_bernoulli"
    SQUASHED_GAUSSIAN = "squashed_gaussian"
    KUMARASWAMY = "kumaraswamy"

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the distribution's parameters, as the act graph puts them out."""
        if self.is_discrete:
            return ("probabilities",)
        return ("a", "b") if self is DistributionKind.KUMARASWAMY else ("mean", "stddev")

    @property
    def is_discrete(self) -> bool:
        """Whether it has probabilities rather than a density."""
        return self in (
            DistributionKind.CATEGORICAL,
            DistributionKind.MULTI_CATEGORICAL,
            DistributionKind.MULTI_BERNOULLI,
        )

    @property
    def is_scaled(self) -> bool:
        """Whether its actions are scaled to the space's bounds, and their rounding errors with them."""
        return self in (DistributionKind.SQUASHED_GAUSSIAN, DistributionKind.KUMARASWAMY)

    @property
    def noise(self) -> Literal["uniform", "normal"]:
        """The kind of its noise: uniform on [0, 1), for the inverse distribution function, or standard normal."""
        return "uniform" if self.is_discrete or self is DistributionKind.KUMARASWAMY else "normal"


@dataclass(frozen=True)
class PolicySpec:
    """What a policy consumes and produces.

    Args:
        observation_space: What the policy observes.
        action_space: What the policy does.
        distribution: The family of its action distribution.
        state_size: Length of the recurrent state, in float32 elements; 0 for a policy without memory.
        mask_size: Length of an action mask, which is that of :func:`mask_size_of` its action space; 0 for a policy
            that takes none.
    """

    observation_space: Space
    action_space: ArraySpace
    distribution: DistributionKind
    state_size: int = 0
    mask_size: int = 0

    def __post_init__(self) -> None:
        if self.mask_size not in (0, mask_size_of(self.action_space)):
            raise ValueError(
                f"PolicySpec: a mask for {self.action_space} has length {mask_size_of(self.action_space)}, or 0 for a "
                f"policy that takes none; got {self.mask_size}"
            )

    @cached_property
    def layout(self) -> Layout:
        """How observations, with their masks, are laid out for the act graph."""
        return Layout.of(self.observation_space, self.mask_size)

    @property
    def noise_size(self) -> int:
        """How many numbers of noise one action takes: one for every component."""
        return math.prod(self.action_space.shape)

    def from_graph(self, action: NDArray[Any]) -> NDArray[Any]:
        """Actions as the act graph gives them in the action space's dtype; no copy where none is needed."""
        return action.astype(self.action_space.dtype, copy=False)


def mask_size_of(action_space: ArraySpace) -> int:
    """Length of a mask for an action space: n for Discrete, the sum of nvec for MultiDiscrete, 0 for all others."""
    if isinstance(action_space, MultiDiscrete):
        return int(action_space.nvec.sum())
    return action_space.n if isinstance(action_space, Discrete) else 0


def check_mask(mask: NDArray[Any], spec: PolicySpec, field: str = "action_mask") -> NDArray[np.float32]:
    """Checks an action mask, or a batch of them, before it goes into the act graph.

    Args:
        mask: Of any dtype, ``[mask_size]`` or ``[B, mask_size]``: true or 1 where an action is allowed, false or 0
            where it is not. For MultiDiscrete, the first component's values come first, then the second's, and so on.
        spec: What the policy consumes.
        field: What to call the mask in an error.

    Returns:
        float32 ``[B, mask_size]``, of zeros and ones, as the act graph takes it.

    Raises:
        InvalidRequestError: The policy takes no mask, the shape differs, an element is neither 0 nor 1, or a row
            allows no action (or no value of one of its components).
    """
    size = spec.mask_size
    if not size:
        raise InvalidRequestError(field, "none, since this policy takes no mask", "a mask")
    if mask.ndim not in (1, 2) or mask.shape[-1] != size or not mask.size:
        raise InvalidRequestError(field, f"shape [{size}] or [batch, {size}]", f"shape {list(mask.shape)}")
    batch = mask.reshape(-1, size)
    allowed = batch == 1
    strange = ~allowed & (batch != 0)
    if strange.any():
        raise InvalidRequestError(field, "zeros and ones, or false and true", f"{batch[strange][0]}")
    space = spec.action_space
    starts = np.cumsum(space.nvec.ravel()) - space.nvec.ravel() if isinstance(space, MultiDiscrete) else np.array([0])
    some = np.logical_or.reduceat(allowed, starts, axis=1)
    if not some.all():
        row, component = (int(i) for i in np.argwhere(~some)[0])
        where = f" for component {component}" if isinstance(space, MultiDiscrete) else ""
        raise InvalidRequestError(field, f"at least one allowed action{where}", f"none in row {row}")
    return np.asarray(allowed, np.float32)
