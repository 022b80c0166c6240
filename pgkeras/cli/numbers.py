"""Formats numbers for people."""

from __future__ import annotations

import math

__all__ = ["counted", "shown"]

_DIGITS = 4


def counted(count: int, noun: str) -> str:
    """Formats a count with its noun: 1 seed, 2 seeds, 12,000 steps."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def shown(value: float) -> str:
    """Formats a number with four significant digits, and all digits before the point: 0.0123, 1.5, 475.2, 12,346."""
    if not math.isfinite(value):
        return str(value)
    before = math.floor(math.log10(abs(value))) + 1 if value else 1
    text = f"{value:,.{max(0, _DIGITS - before)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
