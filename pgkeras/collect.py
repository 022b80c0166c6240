"""The public name of :mod:`pgkeras.environments.collect`."""

from pgkeras.environments.collect import *  # noqa: F403
