"""The public name of :mod:`pgkeras.settings.config` and :mod:`pgkeras.settings.groups`."""

from pgkeras.settings.config import *  # noqa: F403
from pgkeras.settings.groups import *  # noqa: F403
