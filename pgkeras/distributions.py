"""The public name of :mod:`pgkeras.policy.distributions`."""

from pgkeras.policy.distributions import *  # noqa: F403
