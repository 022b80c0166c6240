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
from pgkeras.spaces import ArraySpace, Box, Discrete, MultiBinary, MultiDiscrete
from pgkeras.spaces.spec import DistributionKind

__all__ = ["AUTO", "for_action_space"]

AUTO = "auto"


def for_action_space(space: ArraySpace, family: str = AUTO) -> Distribution:
    """The distribution for an action space.

    Args:
        space: The action space.
        family: The value of a :class:`DistributionKind`, or "auto" for the first that the space goes with: categorical
            for Discrete, multi_categorical for MultiDiscrete, multi_bernoulli for MultiBinary, and diagonal_gaussian
            for Box.

    Raises:
        UnsupportedSpaceError: There is none for that space, or the named one does not go with it.
    """
    families = _families(space)
    if family == AUTO:
        return _make(families[0], space)
    if family not in [kind.value for kind in families]:
        raise UnsupportedSpaceError(
            f"distribution {family} does not go with action space {space}; use {_alternatives(families)}"
        )
    kind = DistributionKind(family)
    if kind in (DistributionKind.SQUASHED_GAUSSIAN, DistributionKind.KUMARASWAMY):
        assert isinstance(space, Box)
        _check_bounds(kind, space)
    return _make(kind, space)


def _families(space: ArraySpace) -> tuple[DistributionKind, ...]:
    if isinstance(space, Discrete):
        return (DistributionKind.CATEGORICAL,)
    if isinstance(space, MultiDiscrete) and space.nvec.size:
        return (DistributionKind.MULTI_CATEGORICAL,)
    if isinstance(space, MultiBinary) and space.size:
        return (DistributionKind.MULTI_BERNOULLI,)
    if isinstance(space, Box) and space.dtype.kind == "f" and space.low.size:
        return (DistributionKind.DIAGONAL_GAUSSIAN, DistributionKind.SQUASHED_GAUSSIAN, DistributionKind.KUMARASWAMY)
    raise UnsupportedSpaceError(
        f"action space {space} is not supported: a space of actions must have at least one element, and a Box of them "
        "a float dtype"
    )


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
