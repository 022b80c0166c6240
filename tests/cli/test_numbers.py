"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgkeras.cli.numbers import shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.01234, "0.01234"),
        (0.0123, "0.0123"),
        (-0.5, "-0.5"),
        (1.5, "1.5"),
        (475.24, "475.2"),
        (12345.6, "12,346"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (100.0, "100"),
    ],
)
def test_by_hand(value: float, text: str) -> None:
    assert shown(value) == text


@given(st.floats(-1e9, 1e9).filter(lambda x: x == 0 or abs(x) > 1e-9))
def test_at_least_four_digits_are_right(value: float) -> None:
    assert float(shown(value).replace(",", "")) == pytest.approx(value, rel=5.01e-4)
