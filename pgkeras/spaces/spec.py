"""PolicySpec: the inputs and outputs of a policy, which is all that a caller needs to know."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgkeras.errors import InvalidRequestError, UnsupportedSpaceError
from pgkeras.spaces import masks
from pgkeras.spaces.arrays import ArraySpace, Box, Discrete, MultiBinary, MultiDiscrete
from pgkeras.spaces.layout import Layout
from pgkeras.spaces.structures import (
    ActionSpace,
    Dict,
    Space,
    Text,
    Tuple,
    as_gymnasium,
    leaves,
    refuse_too_many_choices,
)

__all__ = ["AUTO", "ActionPart", "DistributionKind", "PolicySpec", "check_mask", "families", "kinds_of"]

AUTO = "auto"
"""Selects the default distribution family of an action space."""


class DistributionKind(Enum):
    """The family of a policy's action distribution. The values are the names in files and on the command line."""

    CATEGORICAL = "categorical"
    DIAGONAL_GAUSSIAN = "diagonal_gaussian"
    MULTI_CATEGORICAL = "multi_categorical"
    MULTI_BERNOULLI = "multi_bernoulli"
    SQUASHED_GAUSSIAN = "squashed_gaussian"
    KUMARASWAMY = "kumaraswamy"
    STRUCTURED = "structured"
    """For a Dict or Tuple: each part has an independent distribution."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the distribution's parameters; empty for a structured one, whose parts have parameters."""
        if self is DistributionKind.STRUCTURED:
            return ()
        if self.is_discrete:
            return ("probabilities",)
        return ("a", "b") if self is DistributionKind.KUMARASWAMY else ("mean", "stddev")

    @property
    def is_discrete(self) -> bool:
        """Whether the distribution has probabilities rather than a density."""
        return self in (
            DistributionKind.CATEGORICAL,
            DistributionKind.MULTI_CATEGORICAL,
            DistributionKind.MULTI_BERNOULLI,
        )

    @property
    def is_scaled(self) -> bool:
        """Whether actions, and their rounding errors, are scaled to the space's bounds."""
        return self in (DistributionKind.SQUASHED_GAUSSIAN, DistributionKind.KUMARASWAMY)

    @property
    def noise(self) -> Literal["uniform", "normal"]:
        """The noise for sampling: uniform on [0, 1) for the inverse distribution function, or standard normal."""
        return "uniform" if self.is_discrete or self is DistributionKind.KUMARASWAMY else "normal"


_CONTINUOUS = (DistributionKind.DIAGONAL_GAUSSIAN, DistributionKind.SQUASHED_GAUSSIAN, DistributionKind.KUMARASWAMY)


def families(space: ArraySpace) -> tuple[DistributionKind, ...]:
    """Returns the distribution families that an action space supports. The first is the default.

    Raises:
        UnsupportedSpaceError: The space supports none, or has too many integers to choose from.
    """
    if isinstance(space, Discrete):
        refuse_too_many_choices(space, space.n)
        return (DistributionKind.CATEGORICAL,)
    if isinstance(space, MultiDiscrete) and space.nvec.size:
        refuse_too_many_choices(space, float(space.nvec.sum(dtype=np.float64)))
        return (DistributionKind.MULTI_CATEGORICAL,)
    if isinstance(space, MultiBinary) and space.size:
        return (DistributionKind.MULTI_BERNOULLI,)
    if isinstance(space, Box) and space.dtype.kind == "f" and space.low.size:
        return tuple(kind for kind in _CONTINUOUS if _unmet_requirement(kind, space) is None)
    raise UnsupportedSpaceError(
        f"action space {space} is not supported: an action space must have at least one element, and a Box must have a "
        "float dtype"
    )


def kinds_of(space: ActionSpace, family: str = AUTO) -> tuple[DistributionKind, ...]:
    """Returns the distribution families of the leaves of an action space, in order.

    Args:
        space: The action space.
        family: The value of a :class:`DistributionKind`, or "auto" for the default of each leaf. In a Dict or Tuple,
            leaves that do not support the family get their default.

    Raises:
        UnsupportedSpaceError: A leaf supports no family, or no leaf supports the named one.
    """
    if isinstance(space, Dict | Tuple) and family == DistributionKind.STRUCTURED.value:
        family = AUTO
    found: list[DistributionKind] = []
    for path, leaf in leaves(space):
        if isinstance(leaf, Text):
            raise UnsupportedSpaceError(f"action space, part {'.'.join(path)}: {leaf} is not supported for actions")
        kinds = families(leaf)
        found.append(next((kind for kind in kinds if kind.value == family), kinds[0]))
    if family not in (AUTO, *(kind.value for kind in found)):
        raise UnsupportedSpaceError(f"distribution {family} {_refusal(space, family)}")
    return tuple(found)


def _refusal(space: ActionSpace, family: str) -> str:
    """Explains why no leaf of an action space supports a family, and names alternatives."""
    for path, leaf in leaves(space):
        if not isinstance(leaf, Box) or family not in [kind.value for kind in _CONTINUOUS]:
            continue
        unmet = _unmet_requirement(DistributionKind(family), leaf)
        assert unmet is not None
        requirement, i = unmet
        low, high = leaf.low.ravel()[i], leaf.high.ravel()[i]
        whole = f"part {'.'.join(path)} of action space {space}" if path else f"action space {space}"
        return (
            f"needs {requirement}, but those of component {i} of {whole} are {low:g} and {high:g}; use "
            f"{_alternatives(leaf)}"
        )
    if isinstance(space, Dict | Tuple):
        return f"is not supported by any part of action space {space}; use auto, or a family that a part supports"
    return f"is not supported by action space {space}; use {_alternatives(space)}"


def _alternatives(space: ArraySpace) -> str:
    return " or ".join(kind.value for kind in families(space))


def _unmet_requirement(kind: DistributionKind, space: Box) -> tuple[str, int] | None:
    """Returns the bounds that a family needs and the first component without them; None if all components have them."""
    if kind is DistributionKind.DIAGONAL_GAUSSIAN:
        return None
    low, high = space.low.ravel(), space.high.ravel()
    finite = np.isfinite(low) & np.isfinite(high)
    with np.errstate(over="ignore", invalid="ignore"):
        width = np.where(finite, high - low, 1.0)
    infinite = ~finite & (kind is DistributionKind.KUMARASWAMY)
    for invalid, requirement in (
        (infinite, "finite bounds"),
        (width < np.finfo(np.float32).tiny, "bounds that differ"),
        (width > np.finfo(np.float32).max, "bounds whose distance is a float32"),
    ):
        if invalid.any():
            return requirement, int(invalid.argmax())
    return None


class ActionPart(NamedTuple):
    """One leaf of an action space, with its distribution. A space that is not a Dict or Tuple is one leaf.

    Args:
        path: Keys of the leaf; empty for a space that is one leaf.
        space: Space of the leaf.
        start: First column in a packed action; see :attr:`PolicySpec.action_layout`.
        stop: Column after the last.
        kind: Family of the distribution.
        suffix: Suffix of the parameters' names in the act graph; empty for a space that is one leaf.
    """

    path: tuple[str, ...]
    space: ArraySpace
    start: int
    stop: int
    kind: DistributionKind
    suffix: str

    @property
    def outputs(self) -> dict[str, str]:
        """The names of the distribution's parameters in the act graph."""
        return {name: name + self.suffix for name in self.kind.parameters}

    @property
    def name(self) -> str:
        """The keys of the path joined by dots; "action" for a space that is one leaf."""
        return ".".join(self.path) or "action"


@dataclass(frozen=True)
class PolicySpec:
    """The inputs and outputs of a policy.

    Args:
        observation_space: Space of the observations.
        action_space: Space of the actions.
        distribution: Family of the action distribution.
        state_size: Length of the recurrent state, in float32 elements; 0 for a policy without memory.
        mask_size: Length of an action mask (:func:`pgkeras.spaces.masks.mask_size_of`); 0 for a policy that takes none.
        part_distributions: For a structured distribution, the families of the action space's leaves, in order.
    """

    observation_space: Space
    action_space: ActionSpace
    distribution: DistributionKind
    state_size: int = 0
    mask_size: int = 0
    part_distributions: tuple[DistributionKind, ...] = ()

    def __post_init__(self) -> None:
        if self.mask_size not in (0, size := masks.mask_size_of(self.action_space)):
            raise ValueError(
                f"PolicySpec: a mask for {self.action_space} has length {size}, or 0 for a policy that takes none; "
                f"got {self.mask_size}"
            )
        if self.is_structured != (self.distribution is DistributionKind.STRUCTURED):
            raise ValueError(
                f"PolicySpec: actions of {self.action_space} have no {self.distribution.value} distribution"
            )
        wanted = len(self.action_layout.leaves) if self.is_structured else 0
        if len(self.part_distributions) != wanted:
            raise ValueError(
                f"PolicySpec: expected {wanted} part_distributions for {self.action_space}, got "
                f"{len(self.part_distributions)}"
            )

    @classmethod
    def by_default(cls, observation_space: Space, action_space: ActionSpace, mask_size: int = 0) -> PolicySpec:
        """Returns the spec of a policy without memory, with the default distribution of its action space.

        Raises:
            UnsupportedSpaceError: The action space supports no distribution.
        """
        kinds = kinds_of(action_space)
        if not isinstance(action_space, Dict | Tuple):
            return cls(observation_space, action_space, kinds[0], 0, mask_size)
        return cls(observation_space, action_space, DistributionKind.STRUCTURED, 0, mask_size, kinds)

    @property
    def is_structured(self) -> bool:
        """Whether the action space is a Dict or Tuple."""
        return isinstance(self.action_space, Dict | Tuple)

    @cached_property
    def layout(self) -> Layout:
        """Layout of observations, with their masks, in the act graph."""
        return Layout.of(self.observation_space, self.action_space if self.mask_size else None)

    @cached_property
    def action_layout(self) -> Layout:
        """Layout of actions in the act graph; packed for structured actions."""
        return Layout.of(self.action_space, what="action space")

    @cached_property
    def parts(self) -> tuple[ActionPart, ...]:
        """The leaves of the action space with their distributions, in order."""
        kinds = self.part_distributions or (self.distribution,)
        found: list[ActionPart] = []
        layout = self.action_layout
        for leaf, suffix, kind in zip(layout.leaves, layout.suffixes, kinds, strict=True):
            assert not isinstance(leaf.space, Text)
            found.append(ActionPart(leaf.path, leaf.space, leaf.start, leaf.stop, kind, suffix))
        return tuple(found)

    @property
    def described_distribution(self) -> str:
        """Description of the distribution: its family, with the families of the parts if it is structured."""
        families = ", ".join(f"{part.name}: {part.kind.value}" for part in self.parts)
        return f"{self.distribution.value} ({families})" if self.is_structured else self.distribution.value

    @property
    def parameter_outputs(self) -> tuple[str, ...]:
        """The names of all parameters of the distribution in the act graph."""
        return tuple(output for part in self.parts for output in part.outputs.values())

    @property
    def is_discrete(self) -> bool:
        """Whether all parts of an action have probabilities rather than densities."""
        return all(part.kind.is_discrete for part in self.parts)

    @property
    def has_choices(self) -> bool:
        """Whether any part of an action has a probability rather than a density."""
        return any(part.kind.is_discrete for part in self.parts)

    @property
    def noise_size(self) -> int:
        """Number of noise values per action: one for every component."""
        return sum(math.prod(part.space.shape) for part in self.parts)

    @cached_property
    def normal_noise(self) -> NDArray[np.bool_]:
        """``[noise_size]``: which noise values are standard normal; the others are uniform on [0, 1)."""
        return np.repeat(
            [part.kind.noise == "normal" for part in self.parts], [math.prod(part.space.shape) for part in self.parts]
        )

    @cached_property
    def noise(self) -> Literal["uniform", "normal", "mixed"]:
        """The kind of the noise values; "mixed" if there are both."""
        kinds = {part.kind.noise for part in self.parts}
        return kinds.pop() if len(kinds) == 1 else "mixed"

    def from_graph(self, action: NDArray[Any]) -> Any:
        """Converts actions of the act graph to the form that environments accept.

        Args:
            action: ``[B, ...]``, output of the act graph.

        Returns:
            An array of the action space's dtype, without a copy if possible. For a Dict or Tuple, a dict or tuple of
            such arrays.
        """
        if self.is_structured:
            return as_gymnasium(self.action_layout.unpack(action)[0], self.action_space)
        assert isinstance(self.action_space, ArraySpace)
        return action.astype(self.action_space.dtype, copy=False)

    def to_graph(self, action: Any) -> NDArray[Any]:
        """Inverts :meth:`from_graph`."""
        return self.action_layout.pack(action) if self.is_structured else np.asarray(action)

    def packed(self, actions: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Joins the actions of all parts, each ``[B, ...]``, in the form of the act graph."""
        if not self.is_structured:
            return actions[0]
        return np.concatenate([action.reshape(len(action), -1) for action in actions], 1, dtype=np.float32)


def check_mask(mask: NDArray[Any], spec: PolicySpec, field: str = "action_mask") -> NDArray[np.float32]:
    """Validates an action mask, or a batch of them; see :func:`pgkeras.spaces.masks.check_mask`.

    Raises:
        InvalidRequestError: The policy takes no mask, or the mask is invalid.
    """
    if not spec.mask_size:
        raise InvalidRequestError(field, "none, since this policy takes no mask", "a mask")
    return masks.check_mask(mask, spec.action_space, field)
