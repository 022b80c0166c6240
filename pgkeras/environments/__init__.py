"""Environments: several copies of one gymnasium environment, stepped side by side.

All kinds have the same interface for the collector. The environment's own vector entry point, if it has one, is the
fastest (CartPole: 1,000,000 steps per second). Otherwise, plain environments are stepped one after the other in this
process. Worker processes are faster only for heavy simulators; they also isolate environments that crash or hang.
"""

from typing import TYPE_CHECKING

from pgkeras.lazy import lazy_attributes

if TYPE_CHECKING:
    from pgkeras.environments.creation import make
    from pgkeras.environments.plain import PlainEnvironments
    from pgkeras.environments.pool import PoolEnvironments
    from pgkeras.environments.probe import Look, look
    from pgkeras.environments.processes import ProcessEnvironments
    from pgkeras.environments.protocol import Environments, name_of
    from pgkeras.environments.single import make_one
    from pgkeras.environments.vector import VectorEnvironments
    from pgkeras.environments.watchdog import WatchedEnvironments
    from pgkeras.settings.recipe import Recipe, WrapperCall

__all__ = [
    "Environments",
    "Look",
    "PlainEnvironments",
    "PoolEnvironments",
    "ProcessEnvironments",
    "Recipe",
    "VectorEnvironments",
    "WatchedEnvironments",
    "WrapperCall",
    "look",
    "make",
    "make_one",
    "name_of",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "Environments": "pgkeras.environments.protocol",
        "Look": "pgkeras.environments.probe",
        "PlainEnvironments": "pgkeras.environments.plain",
        "PoolEnvironments": "pgkeras.environments.pool",
        "ProcessEnvironments": "pgkeras.environments.processes",
        "Recipe": "pgkeras.settings.recipe",
        "VectorEnvironments": "pgkeras.environments.vector",
        "WatchedEnvironments": "pgkeras.environments.watchdog",
        "WrapperCall": "pgkeras.settings.recipe",
        "look": "pgkeras.environments.probe",
        "make": "pgkeras.environments.creation",
        "make_one": "pgkeras.environments.single",
        "name_of": "pgkeras.environments.protocol",
    },
)
