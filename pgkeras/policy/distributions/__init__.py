"""Action distributions: pure functions of (parameters, noise), in TensorFlow.

A network puts out ``parameters`` ``[B, parameter_size]``; a distribution says what they mean. Randomness is an input:
``sample`` maps noise to a sample by the inverse of the distribution function (or, for a normal, by scaling), so that
the same (parameters, noise) gives the same sample wherever it is computed.

A *sample* is what log-probabilities are taken of; an *action* is what the environment is given. For a Gaussian the
action is the sample clipped to the space's bounds, and the log-probability is the unclipped sample's. For the smooth
distributions between bounds, the log-probability is the action's, computed from the sample, which holds more digits.

Illegal actions are taken out of the parameters by :func:`masked`, before anything else is done with them.
"""

from pgkeras.policy.distributions.base import Distribution
from pgkeras.policy.distributions.bernoulli import MultiBernoulli
from pgkeras.policy.distributions.categorical import Categorical, MultiCategorical, masked
from pgkeras.policy.distributions.choice import AUTO, for_action_space
from pgkeras.policy.distributions.gaussian import DiagonalGaussian
from pgkeras.policy.distributions.kumaraswamy import Kumaraswamy
from pgkeras.policy.distributions.squashed import SquashedGaussian
from pgkeras.policy.distributions.structured import Structured

__all__ = [
    "AUTO",
    "Categorical",
    "DiagonalGaussian",
    "Distribution",
    "Kumaraswamy",
    "MultiBernoulli",
    "MultiCategorical",
    "SquashedGaussian",
    "Structured",
    "for_action_space",
    "masked",
]
