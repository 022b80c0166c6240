"""Descriptions of the difference between two spaces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pgkeras.spaces import Box, Dict, Discrete, MultiBinary, Text, Tuple
from pgkeras.spaces.difference import difference


def box(low: Any = -1.0, high: Any = 1.0, shape: tuple[int, ...] = (2,), dtype: Any = np.float32) -> Box:
    return Box(np.full(shape, low), np.full(shape, high), np.dtype(dtype))


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        (box(), box(), ""),
        (box(high=0.41887902047863906), box(high=float(np.float32(0.41887902047863906))), ""),
        (
            box(dtype=np.float64, high=0.1),
            box(dtype=np.float64, high=float(np.float32(0.1))),
            "bound high[0] 0.1 and 0.10",
        ),
        (box(), box(low=-2.0), "bound low[0] -1.0 and -2.0"),
        (box(), box(shape=(3,)), "shape (2,) and (3,)"),
        (box(), box(dtype=np.float64), "dtype float32 and float64"),
        (box(high=np.inf), box(high=np.inf), ""),
        (Discrete(2), Discrete(3), "Discrete(2) and Discrete(3)"),
        (Discrete(2), MultiBinary((2,)), "Discrete(2) and MultiBinary"),
        (
            Dict({"a": box(), "b": Discrete(2)}),
            Dict({"a": box(), "b": Discrete(3)}),
            "part 'b': Discrete(2) and Discrete(3)",
        ),
        (Dict({"a": box()}), Dict({"b": box()}), "parts 'a' and 'b'"),
        (Tuple((box(), Discrete(2))), Tuple((box(high=2.0), Discrete(2))), "part '0': bound high[0] 1.0 and 2.0"),
        (Tuple((box(),)), Tuple((box(), box())), "parts '0' and '0', '1'"),
        (Text(max_length=5), Text(max_length=5, vocabulary=("a",)), ""),
        (Text(max_length=5), Text(max_length=6), "Text"),
    ],
)
def test_difference_describes_the_first_difference(one: Any, other: Any, found: str) -> None:
    if found:
        assert difference(one, other).startswith(found)
    else:
        assert difference(one, other) == ""
