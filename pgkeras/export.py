"""The public name of :mod:`pgkeras.policy.export`."""

from pgkeras.policy.export import *  # noqa: F403
