"""Observation and action spaces: immutable descriptions that validate values.

They mirror ``gymnasium.spaces`` but do not import gymnasium, so clients and servers can use them.
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
