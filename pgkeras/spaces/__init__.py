"""Observation and action spaces: immutable descriptions that check values against themselves.

They mirror ``gymnasium.spaces`` without needing gymnasium, so that a client or a server can hold them.
"""

from pgkeras.spaces.arrays import ArraySpace, Box, Discrete, MultiBinary, MultiDiscrete
from pgkeras.spaces.sampling import draw_integers
from pgkeras.spaces.structures import (
    ActionSpace,
    Dict,
    Space,
    Text,
    Tuple,
    actions_from_gymnasium,
    as_gymnasium,
    count,
    leaves,
    map_texts,
    observations_from_gymnasium,
    parts,
)

__all__ = [
    "ActionSpace",
    "ArraySpace",
    "Box",
    "Dict",
    "Discrete",
    "MultiBinary",
    "MultiDiscrete",
    "Space",
    "Text",
    "Tuple",
    "actions_from_gymnasium",
    "as_gymnasium",
    "count",
    "draw_integers",
    "leaves",
    "map_texts",
    "observations_from_gymnasium",
    "parts",
]
