"""Detects spaces of images, and the order of their axes."""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np

from pgkeras.spaces.arrays import Box

__all__ = ["image_shape", "is_image"]

_PIXEL_RANGES = ((0.0, 1.0), (0.0, 255.0), (-1.0, 1.0))


def is_image(space: Any) -> TypeGuard[Box]:
    """Returns whether a space holds images of at least 3x3 pixels, with 2 axes, or 3 with channels first or last."""
    if not isinstance(space, Box) or len(space.shape) not in (2, 3) or not space.low.size or not _holds_pixels(space):
        return False
    height, width, _ = image_shape(space.shape)
    return min(height, width) >= 3


def _holds_pixels(space: Box) -> bool:
    """Returns whether the elements are bits, bytes, or floats in a typical range of pixels."""
    if space.dtype.kind == "f":
        return (float(space.low.min()), float(space.high.max())) in _PIXEL_RANGES
    return space.dtype.kind == "b" or space.dtype == np.uint8


def image_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Returns height, width and channels. The channels are the shorter of the first and the last axis."""
    if len(shape) == 2:
        return *shape, 1
    first, middle, last = shape
    return (first, middle, last) if last <= first else (middle, last, first)
