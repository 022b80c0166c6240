"""Which distribution goes with which action space."""

from __future__ import annotations

import numpy as np

from pgkeras.errors import UnsupportedSpaceError
from pgkeras.policy.distributions.base import Distribution
from pgkeras.policy.distributions.bernoulli import MultiBernoulli
from pgkeras.policy.distributions.categorical import Categorical, MultiCategorical
from pgkeras.policy.distributions.gaussian import DiagonalGaussian
from pgkeras.policy.distributions.kumaraswamy import Kumaraswamy
from pgkeras.policy.distributions.squashed import SquashedGaussian
from pgkeras.policy.distributions.structured import Structured
from pgkeras.spaces import ActionSpace, ArraySpace, Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple, leaves
from pgkeras.spaces.spec import DistributionKind, PolicySpec, families

__all__ = ["AUTO", "for_action_space"]

AUTO = "auto"


def for_action_space(space: ActionSpace, family: str = AUTO) -> Distribution:
    """The distribution for an action space.

    Args:
        space: The action space.
        family: The value of a :class:`DistributionKind`, or "auto" for the first that the space goes with: categorical
            for Discrete, multi_categorical for MultiDiscrete, multi_bernoulli for MultiBinary, and diagonal_gaussian
            for Box. In a Dict or Tuple, those of its leaves have it that it goes with.

    Raises:
        UnsupportedSpaceError: There is none for that space, or the named one does not go with it.
    """
    if isinstance(space, Dict | Tuple):
        return _structured(space, family)
    kinds = families(space)
    if family == AUTO:
        return _make(kinds[0], space)
    if family not in [kind.value for kind in kinds]:
        raise UnsupportedSpaceError(
            f"distribution {family} does not go with action space {space}; use {_alternatives(kinds)}"
        )
    kind = DistributionKind(family)
    if kind in (DistributionKind.SQUASHED_GAUSSIAN, DistributionKind.KUMARASWAMY):
        assert isinstance(space, Box)
        _check_bounds(kind, space)
    return _make(kind, space)


def _structured(space: Dict | Tuple, family: str) -> Structured:
    found: list[Distribution] = []
    for path, leaf in leaves(space):
        if isinstance(leaf, Text):
            raise UnsupportedSpaceError(f"action space {leaf} of {'.'.join(path)} is not supported: it is a text")
        goes = family in [kind.value for kind in families(leaf)]
        found.append(for_action_space(leaf, family if goes else AUTO))
    kinds = tuple(one.kind for one in found)
    if family not in (AUTO, *(kind.value for kind in kinds)):
        raise UnsupportedSpaceError(
            f"distribution {family} goes with no part of action space {space}; use auto, or one that goes with a part"
        )
    # Of the observations, nothing matters here.
    spec = PolicySpec(Discrete(1), space, DistributionKind.STRUCTURED, part_distributions=kinds)
    return Structured(spec.parts, tuple(found))


def _make(kind: DistributionKind, space: ArraySpace) -> Distribution:
    if isinstance(space, Discrete):
        return Categorical(space.n, space.start)
    if isinstance(space, MultiDiscrete):
        return MultiCategorical(space)
    if isinstance(space, MultiBinary):
        return MultiBernoulli(space)
    if kind is DistributionKind.SQUASHED_GAUSSIAN:
        return SquashedGaussian(space)
    return Kumaraswamy(space) if kind is DistributionKind.KUMARASWAMY else DiagonalGaussian(space)


def _check_bounds(kind: DistributionKind, space: Box) -> None:
    low, high = space.low.ravel(), space.high.ravel()
    finite = np.isfinite(low) & np.isfinite(high)
    with np.errstate(over="ignore", invalid="ignore"):
        width = np.where(finite, high - low, 1.0)
    narrow = width < np.finfo(np.float32).tiny
    wide = width > np.finfo(np.float32).max
    infinite = ~finite if kind is DistributionKind.KUMARASWAMY else np.zeros_like(finite)
    instead = (DistributionKind.DIAGONAL_GAUSSIAN, DistributionKind.SQUASHED_GAUSSIAN)
    for wrong, needed, alternatives in (
        (infinite, "finite bounds", instead),
        (narrow, "bounds that differ", instead[:1]),
        (wide, "bounds whose distance is a float32", instead[:1]),
    ):
        if wrong.any():
            i = int(np.flatnonzero(wrong)[0])
            raise UnsupportedSpaceError(
                f"distribution {kind.value} needs {needed}, but those of component {i} of action space {space} are "
                f"{low[i]:g} and {high[i]:g}; use {_alternatives(alternatives)}"
            )


def _alternatives(kinds: tuple[DistributionKind, ...]) -> str:
    return " or ".join(kind.value for kind in kinds)
