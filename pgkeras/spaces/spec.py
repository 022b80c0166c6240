"""PolicySpec: what a policy consumes and produces. A caller needs to know nothing else."""

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
"""In place of a family's name: the one that an action space has where none is asked for."""


class DistributionKind(Enum):
    """The family of a policy's action distribution; the values name it in files and on the command line."""

    CATEGORICAL = "categorical"
    DIAGONAL_GAUSSIAN = "diagonal_gaussian"
    MULTI_CATEGORICAL = "multi_categorical"
    MULTI_BERNOULLI = "multi_bernoulli"
    SQUASHED_GAUSSIAN = "squashed_gaussian"
    KUMARASWAMY = "kumaraswamy"
    STRUCTURED = "structured"
    """Of a Dict or Tuple: each of its parts has a distribution of its own, independent of the others."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the distribution's parameters; none of a structured one, whose parts have theirs."""
        if self is DistributionKind.STRUCTURED:
            return ()
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


_OF_NUMBERS = (DistributionKind.DIAGONAL_GAUSSIAN, DistributionKind.SQUASHED_GAUSSIAN, DistributionKind.KUMARASWAMY)


def families(space: ArraySpace) -> tuple[DistributionKind, ...]:
    """The families of distributions that go with an action space; the first is taken where none is asked for.

    Raises:
        UnsupportedSpaceError: There is none, or it has too many integers to choose from.
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
        return tuple(kind for kind in _OF_NUMBERS if _lack(kind, space) is None)
    raise UnsupportedSpaceError(
        f"action space {space} is not supported: a space of actions must have at least one element, and a Box of them "
        "a float dtype"
    )


def kinds_of(space: ActionSpace, family: str = AUTO) -> tuple[DistributionKind, ...]:
    """The families of distributions that the leaves of an action space get, in order.

    Args:
        space: The action space.
        family: The value of a :class:`DistributionKind`, or "auto" for the first of each leaf's :func:`families`. In a
            Dict or Tuple, those of its leaves have it that it goes with.

    Raises:
        UnsupportedSpaceError: None goes with a leaf, or the named one goes with no leaf.
    """
    if isinstance(space, Dict | Tuple) and family == DistributionKind.STRUCTURED.value:
        family = AUTO
    found: list[DistributionKind] = []
    for path, leaf in leaves(space):
        if isinstance(leaf, Text):
            raise UnsupportedSpaceError(f"action space {leaf} of {'.'.join(path)} is not supported: it is a text")
        kinds = families(leaf)
        found.append(next((kind for kind in kinds if kind.value == family), kinds[0]))
    if family not in (AUTO, *(kind.value for kind in found)):
        raise UnsupportedSpaceError(f"distribution {family} {_refusal(space, family)}")
    return tuple(found)


def _refusal(space: ActionSpace, family: str) -> str:
    """Why a family goes with no leaf of an action space, and what does."""
    for path, leaf in leaves(space):
        if not isinstance(leaf, Box) or family not in [kind.value for kind in _OF_NUMBERS]:
            continue
        lack = _lack(DistributionKind(family), leaf)
        assert lack is not None
        needed, i = lack
        low, high = leaf.low.ravel()[i], leaf.high.ravel()[i]
        whole = f"part {'.'.join(path)} of action space {space}" if path else f"action space {space}"
        return (
            f"needs {needed}, but those of component {i} of {whole} are {low:g} and {high:g}; use {_alternatives(leaf)}"
        )
    if isinstance(space, Dict | Tuple):
        return f"goes with no part of action space {space}; use auto, or one that goes with a part"
    return f"does not go with action space {space}; use {_alternatives(space)}"


def _alternatives(space: ArraySpace) -> str:
    return " or ".join(kind.value for kind in families(space))


def _lack(kind: DistributionKind, space: Box) -> tuple[str, int] | None:
    """What bounds a family needs and a space has not, and the first component that lacks them; None if it has them."""
    if kind is DistributionKind.DIAGONAL_GAUSSIAN:
        return None
    low, high = space.low.ravel(), space.high.ravel()
    finite = np.isfinite(low) & np.isfinite(high)
    with np.errstate(over="ignore", invalid="ignore"):
        width = np.where(finite, high - low, 1.0)
    infinite = ~finite & (kind is DistributionKind.KUMARASWAMY)
    for wrong, needed in (
        (infinite, "finite bounds"),
        (width < np.finfo(np.float32).tiny, "bounds that differ"),
        (width > np.finfo(np.float32).max, "bounds whose distance is a float32"),
    ):
        if wrong.any():
            return needed, int(wrong.argmax())
    return None


class ActionPart(NamedTuple):
    """One leaf of an action space with its distribution; the whole of a space that is no Dict or Tuple.

    Args:
        path: The keys that lead to it; none for the whole.
        space: What it does.
        start: Its first column in a packed action; see :attr:`PolicySpec.action_layout`.
        stop: The one after its last.
        kind: The family of its distribution.
        suffix: What follows the names of its parameters in the act graph; nothing for the whole.
    """

    path: tuple[str, ...]
    space: ArraySpace
    start: int
    stop: int
    kind: DistributionKind
    suffix: str

    @property
    def outputs(self) -> dict[str, str]:
        """What the act graph calls each of the distribution's parameters."""
        return {name: name + self.suffix for name in self.kind.parameters}

    @property
    def name(self) -> str:
        """The path with dots between its keys; "action" for the whole."""
        return ".".join(self.path) or "action"


@dataclass(frozen=True)
class PolicySpec:
    """What a policy consumes and produces.

    Args:
        observation_space: What the policy observes.
        action_space: What the policy does.
        distribution: The family of its action distribution.
        state_size: Length of the recurrent state, in float32 elements; 0 for a policy without memory.
        mask_size: Length of an action mask, which is that of :func:`pgkeras.spaces.masks.mask_size_of` its action
            space; 0 for a policy that takes none.
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
                f"PolicySpec: actions of {self.action_space} have {wanted} parts with distributions of their own, got "
                f"{len(self.part_distributions)}"
            )

    @classmethod
    def by_default(cls, observation_space: Space, action_space: ActionSpace, mask_size: int = 0) -> PolicySpec:
        """What a policy without memory produces, by the first of the :func:`families` that go with its actions.

        Raises:
            UnsupportedSpaceError: None goes with them.
        """
        kinds = kinds_of(action_space)
        if not isinstance(action_space, Dict | Tuple):
            return cls(observation_space, action_space, kinds[0], 0, mask_size)
        return cls(observation_space, action_space, DistributionKind.STRUCTURED, 0, mask_size, kinds)

    @property
    def is_structured(self) -> bool:
        """Whether actions are made of parts."""
        return isinstance(self.action_space, Dict | Tuple)

    @cached_property
    def layout(self) -> Layout:
        """How observations, with their masks, are laid out for the act graph."""
        return Layout.of(self.observation_space, self.action_space if self.mask_size else None)

    @cached_property
    def action_layout(self) -> Layout:
        """How actions are laid out in the act graph: packed, for those that are made of parts."""
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
        """The distribution for people: its family, and of a structured one those of its parts."""
        families = ", ".join(f"{part.name}: {part.kind.value}" for part in self.parts)
        return f"{self.distribution.value} ({families})" if self.is_structured else self.distribution.value

    @property
    def parameter_outputs(self) -> tuple[str, ...]:
        """What the act graph calls all parameters of the distribution."""
        return tuple(output for part in self.parts for output in part.outputs.values())

    @property
    def is_discrete(self) -> bool:
        """Whether actions have probabilities, all of them, rather than a density."""
        return all(part.kind.is_discrete for part in self.parts)

    @property
    def has_choices(self) -> bool:
        """Whether any part of an action has a probability rather than a density."""
        return any(part.kind.is_discrete for part in self.parts)

    @property
    def noise_size(self) -> int:
        """How many numbers of noise one action takes: one for every component."""
        return sum(math.prod(part.space.shape) for part in self.parts)

    @cached_property
    def normal_noise(self) -> NDArray[np.bool_]:
        """``[noise_size]``: which of those numbers are standard normal; the others are uniform on [0, 1)."""
        return np.repeat(
            [part.kind.noise == "normal" for part in self.parts], [math.prod(part.space.shape) for part in self.parts]
        )

    @cached_property
    def noise(self) -> Literal["uniform", "normal", "mixed"]:
        """The kind of those numbers; mixed where they are not all of one."""
        kinds = {part.kind.noise for part in self.parts}
        return kinds.pop() if len(kinds) == 1 else "mixed"

    def from_graph(self, action: NDArray[Any]) -> Any:
        """Actions as the act graph gives them, as an environment takes them.

        Args:
            action: ``[B, ...]``.

        Returns:
            An array of the action space's dtype, without a copy where none is needed; of a Dict or Tuple, a dict or
            tuple of such arrays.
        """
        if self.is_structured:
            return as_gymnasium(self.action_layout.unpack(action)[0], self.action_space)
        assert isinstance(self.action_space, ArraySpace)
        return action.astype(self.action_space.dtype, copy=False)

    def to_graph(self, action: Any) -> NDArray[Any]:
        """The inverse of :meth:`from_graph`."""
        return self.action_layout.pack(action) if self.is_structured else np.asarray(action)

    def packed(self, actions: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Actions of every part ``[B, ...]``, in order, as the act graph gives them."""
        if not self.is_structured:
            return actions[0]
        return np.concatenate([action.reshape(len(action), -1) for action in actions], 1, dtype=np.float32)


def check_mask(mask: NDArray[Any], spec: PolicySpec, field: str = "action_mask") -> NDArray[np.float32]:
    """Checks an action mask, or a batch of them; see :func:`pgkeras.spaces.masks.check_mask`.

    Raises:
        InvalidRequestError: The policy takes no mask, or this is none.
    """
    if not spec.mask_size:
        raise InvalidRequestError(field, "none, since this policy takes no mask", "a mask")
    return masks.check_mask(mask, spec.action_space, field)
