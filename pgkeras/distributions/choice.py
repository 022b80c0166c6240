"""Which distribution goes with which action space."""

from __future__ import annotations

from pgkeras.distributions.base import Distribution
from pgkeras.distributions.bernoulli import MultiBernoulli
from pgkeras.distributions.categorical import Categorical, MultiCategorical
from pgkeras.distributions.gaussian import DiagonalGaussian
from pgkeras.errors import UnsupportedSpaceError
from pgkeras.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Space

__all__ = ["for_action_space"]


def for_action_space(space: Space) -> Distribution:
    """The distribution for an action space: categorical for Discrete, diagonal Gaussian for Box, and so on.

    Raises:
        UnsupportedSpaceError: There is none for that space.
    """
    if isinstance(space, Discrete):
        return Categorical(space.n, space.start)
    if isinstance(space, MultiDiscrete) and space.nvec.size:
        return MultiCategorical(space)
    if isinstance(space, MultiBinary) and space.size:
        return MultiBernoulli(space)
    if isinstance(space, Box) and space.dtype.kind == "f" and space.low.size:
        return DiagonalGaussian(space)
    raise UnsupportedSpaceError(
        f"action space {space} is not supported: a space of actions must have at least one element, and a Box of them "
        "a float dtype"
    )
