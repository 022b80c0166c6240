"""The public name of :mod:`pgkeras.reinforce.returns`."""

from pgkeras.reinforce.returns import *  # noqa: F403
