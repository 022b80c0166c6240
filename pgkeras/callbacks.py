"""The public name of :mod:`pgkeras.runs.callbacks`."""

from pgkeras.runs.callbacks import *  # noqa: F403
