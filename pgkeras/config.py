"""The public name of :mod:`pgkeras.settings.config`."""

from pgkeras.settings.config import *  # noqa: F403
