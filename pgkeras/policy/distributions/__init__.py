"""Action distributions: pure functions of (parameters, noise), in TensorFlow.

A network computes ``parameters`` ``[B, parameter_size]``, and a distribution interprets them. Randomness is an input:
``sample`` maps noise to a sample by the inverse cumulative distribution function (CDF), or for a normal distribution by
scaling and shifting. The same (parameters, noise) therefore give the same sample on every engine.

The *sample* is stored for training, and log-probabilities are computed from it. The *action* is sent to the
environment. For a Gaussian the action is the sample clipped to the space's bounds, and the log-probability is that of
the unclipped sample. For the squashed Gaussian and the Kumaraswamy distribution, the log-probability is that of the
action, computed from the sample because the sample is more precise near the bounds.

:func:`masked` removes forbidden actions from the parameters before any other use of them.
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
