"""Environments: several copies of one gymnasium environment, stepped side by side.

Two ways, which look the same to the collector: an environment's own vector entry point, where there is one (CartPole:
a million steps a second), and otherwise plain environments stepped one after the other in this process, which beats
worker processes for all but heavy simulators.
"""

from pgkeras.environments.making import make, make_one
from pgkeras.environments.plain import PlainEnvironments
from pgkeras.environments.protocol import Environments
from pgkeras.environments.vector import VectorEnvironments

__all__ = ["Environments", "PlainEnvironments", "VectorEnvironments", "make", "make_one"]
