"""The choice of a distribution for an action space."""

from __future__ import annotations

from pgkeras.policy.distributions.base import Distribution
from pgkeras.policy.distributions.bernoulli import MultiBernoulli
from pgkeras.policy.distributions.categorical import Categorical, MultiCategorical
from pgkeras.policy.distributions.gaussian import DiagonalGaussian
from pgkeras.policy.distributions.kumaraswamy import Kumaraswamy
from pgkeras.policy.distributions.squashed import SquashedGaussian
from pgkeras.policy.distributions.structured import Structured
from pgkeras.spaces import ActionSpace, ArraySpace, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from pgkeras.spaces.spec import AUTO, DistributionKind, PolicySpec, kinds_of

__all__ = ["AUTO", "for_action_space"]


def for_action_space(space: ActionSpace, family: str = AUTO) -> Distribution:
    """Returns the distribution for an action space.

    Args:
        space: The action space.
        family: The value of a :class:`DistributionKind`, or "auto": categorical for Discrete, multi_categorical for
            MultiDiscrete, multi_bernoulli for MultiBinary, and diagonal_gaussian for Box. In a Dict or Tuple, the
            family applies to the leaves that support it.

    Raises:
        UnsupportedSpaceError: The space is not supported, or does not support the family.
    """
    kinds = kinds_of(space, family)
    if not isinstance(space, Dict | Tuple):
        return _make(kinds[0], space)
    # The observation space is a placeholder, because only the parts of the action are used.
    spec = PolicySpec(Discrete(1), space, DistributionKind.STRUCTURED, part_distributions=kinds)
    return Structured(spec.parts, tuple(_make(part.kind, part.space) for part in spec.parts))


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
