"""The public name of :mod:`pgkeras.runs.training`."""

from pgkeras.runs.training import *  # noqa: F403
