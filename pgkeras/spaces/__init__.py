"""Observation and action spaces: immutable descriptions that check arrays against themselves.

They mirror ``gymnasium.spaces`` without needing gymnasium, so that a client or a server can hold them.
"""

from pgkeras.spaces.arrays import Box, Discrete, MultiBinary, MultiDiscrete, Space, from_gymnasium

__all__ = ["Box", "Discrete", "MultiBinary", "MultiDiscrete", "Space", "from_gymnasium"]
