"""Action distributions: pure functions of (parameters, noise), in TensorFlow.

A network puts out ``parameters`` ``[B, parameter_size]``; a distribution says what they mean. Randomness is an input:
``sample`` maps noise to a sample by the inverse of the distribution function (or, for a normal, by scaling), so that
the same (parameters, noise) gives the same sample wherever it is computed.

A *sample* is what log-probabilities are taken of; an *action* is what the environment is given. For a Gaussian the
action is the sample clipped to the space's bounds, and the log-probability is the unclipped sample's.

Illegal actions are taken out of the parameters by :func:`masked`, before anything else is done with them.
"""

from pgkeras.distributions.base import Distribution
from pgkeras.distributions.bernoulli import MultiBernoulli
from pgkeras.distributions.categorical import Categorical, MultiCategorical, masked
from pgkeras.distributions.choice import for_action_space
from pgkeras.distributions.gaussian import DiagonalGaussian

__all__ = [
    "Categorical",
    "DiagonalGaussian",
    "Distribution",
    "MultiBernoulli",
    "MultiCategorical",
    "for_action_space",
    "masked",
]
