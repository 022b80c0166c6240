"""The public name of :mod:`pgkeras.policy.networks`."""

from pgkeras.policy.networks import *  # noqa: F403
