"""Observation and action spaces: immutable descriptions that check values against themselves.

They mirror ``gymnasium.spaces`` without needing gymnasium, so that a client or a server can hold them.
"""

from pgkeras.spaces.arrays import ArraySpace, Box, Discrete
from pgkeras.spaces.structures import Dict, Space, Text, Tuple, count, from_gymnasium, map_texts

__all__ = ["count", "ArraySpace", "Box", "Dict", "Discrete", "Space", "Text", "Tuple", "from_gymnasium", "map_texts"]
