"""Encoders: from one leaf of an observation to features, each kind of leaf by the layers that fit it."""

from __future__ import annotations

import logging
import math
import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pgkeras.backend import keras
from pgkeras.errors import UnsupportedSpaceError
from pgkeras.policy.networks.layers import TextReader, activated, orthogonal
from pgkeras.settings.groups import NetworkSettings
from pgkeras.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Text
from pgkeras.spaces.images import image_shape, is_image
from pgkeras.spaces.layout import Leaf
from pgkeras.spaces.tokenizer import FIRST

__all__ = ["AS_THEY_ARE", "FOR_IMAGES", "describe", "encode", "normalised"]

logger = logging.getLogger(__name__)

AS_THEY_ARE = "numbers as they are"

_MOST_ONE_HOT = 512
_MOST_EMBEDDED = 10_000_000  # rows of a table, of 128 bytes each
_EMBEDDING_WIDTH = 32
_TEXT_UNITS = 64
_LARGEST_SIDE = 160  # pixels of the shorter side; beyond it a network takes many times as long as one for 84 by 84
_MOST_RANGE = 1e6  # wider bounds than this say nothing about what numbers come, and count as none
_MOST_NORMALISED = 1 << 17  # elements of an image; larger ones are scaled alone
_LARGE = 50.0  # bounded numbers beyond it are scaled into their range


class _Convolutions(NamedTuple):
    name: str
    layers: tuple[tuple[int, int, int], ...]  # filters, kernel size, stride
    dense: int

    @property
    def smallest(self) -> int:
        """Pixels of the shorter side of which the layers leave one."""
        pixels = 1
        for _, size, stride in reversed(self.layers):
            pixels = (pixels - 1) * stride + size
        return pixels


# Mnih et al. 2015, "Human-level control through deep reinforcement learning", Methods, "Model architecture".
_NATURE = _Convolutions("Nature CNN", ((32, 8, 4), (64, 4, 2), (64, 3, 1)), 512)
# Young & Tian 2019, "MinAtar", section 4: one layer of 16 filters and 128 units.
_SMALL = _Convolutions("small CNN", ((16, 3, 1),), 128)

# Mnih et al. 2013, "Playing Atari with deep reinforcement learning", section 4.1.
_LIGHT = _Convolutions("light CNN", ((16, 8, 4), (32, 4, 2)), 256)

FOR_IMAGES = {"nature_cnn": _NATURE, "light_cnn": _LIGHT, "small_cnn": _SMALL}
"""By the choices of the setting ``network`` that name one."""


def describe(leaf: Leaf, settings: NetworkSettings) -> str:
    """Describes the encoder of a leaf, and what is done to its numbers before."""
    space = leaf.space
    if isinstance(space, Text):
        return f"embedding of {len(space.vocabulary)} tokens and GRU"
    if settings.network != "mlp" and is_image(space):
        name = _convolutions(space, settings.network).name
        if normalised(leaf, settings).any():
            return f"{name} of normalised pixels"
        return f"{name} of pixels scaled to [0, 1]" if _pixel_range(space) else name
    if isinstance(space, Box):
        return _describe_numbers(space, normalised(leaf, settings))
    if isinstance(space, MultiBinary):
        return AS_THEY_ARE
    return "one-hot" if _most_values(space) <= _MOST_ONE_HOT else "embedding"


def _describe_numbers(space: Box, statistics: NDArray[np.bool_]) -> str:
    if statistics.all():
        return "normalised numbers"
    scaled = bool((_range(space, ~statistics)[1] != 1.0).any())
    others = "numbers in units of their range" if scaled else AS_THEY_ARE
    return f"{others}, or normalised where they have no bounds" if statistics.any() else others


def normalised(leaf: Leaf, settings: NetworkSettings) -> NDArray[np.bool_]:
    """Which elements of a leaf, ``[*leaf.shape]``, are normalised by their running mean and variance."""
    space, setting = leaf.space, settings.normalize_observations
    if not isinstance(space, Box) or setting is False:
        return np.zeros(leaf.shape, np.bool_)
    if setting:
        return np.full(leaf.shape, math.prod(leaf.shape) <= _MOST_NORMALISED)
    with np.errstate(over="ignore"):
        return ~((space.high / 2 - space.low / 2) < _MOST_RANGE)


def encode(leaf: Leaf, x: Any, seed: int, settings: NetworkSettings, text: Any = None) -> Any:
    """Features ``[B, F]`` of a leaf ``[B, *leaf.shape]``.

    Images are scaled to [0, 1] where their space says within which bounds they lie; integers become one-hot vectors, or
    embeddings where there are many; texts are read by a GRU; other numbers are scaled into their range where that is
    far from 1. What has been normalised (:func:`normalised`) is not scaled.

    Args:
        leaf: What it is.
        x: Its symbolic values.
        seed: Seed of the initial weights.
        settings: What the network is like: ``network`` says what reads images.
        text: Features ``[B, F]`` of the texts beside it, by which the feature maps of images are modulated; None where
            there are none.

    Raises:
        UnsupportedSpaceError: The setting names a network that the image is too small for, or integers are too many.
    """
    space = leaf.space
    name = re.sub(r"[^\w.]", "_", leaf.name, flags=re.ASCII)
    if name != leaf.name or not name:
        name = f"part_{leaf.start}_{name}"  # two keys may differ in such characters alone
    if isinstance(space, Text):
        return TextReader(len(space.vocabulary) + FIRST, _EMBEDDING_WIDTH, _TEXT_UNITS, seed, name=f"{name}_text")(x)
    if settings.network != "mlp" and is_image(space):
        _check_size(leaf.name, space, settings.network)
        bounds = None if normalised(leaf, settings).any() else _pixel_range(space)
        return _image(x, space, settings, bounds, name, seed, text)
    if isinstance(space, Box | MultiBinary):
        flat = keras.ops.cast(x, "float32")
        if isinstance(space, Box):
            flat = _scaled(flat, space, ~normalised(leaf, settings))
        return flat if len(leaf.shape) == 1 else keras.ops.reshape(flat, (-1, math.prod(leaf.shape)))
    return _integers(space, x, name, seed)


def _scaled(x: Any, space: Box, may_be: NDArray[np.bool_]) -> Any:
    """Numbers in units of their own range, -1 to 1, where they may be and are bounded and large; others as they are."""
    centre, half = _range(space, may_be)
    if (half == 1.0).all() and not centre.any():
        return x
    return (x - centre) / half


def _range(space: Box, may_be: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """By element, the centre and half the width of the range that :func:`_scaled` divides by; 0 and 1 for none."""
    low, high = space.low, space.high
    with np.errstate(invalid="ignore", over="ignore"):
        half, centre = high / 2 - low / 2, high / 2 + low / 2
        scales = np.isfinite(half) & (half > 0) & (np.maximum(np.abs(low), np.abs(high)) > _LARGE)
        scales &= (half < _MOST_RANGE) & may_be
    return np.where(scales, centre, 0.0).astype(np.float32), np.where(scales, half, 1.0).astype(np.float32)


def _integers(space: Discrete | MultiDiscrete, x: Any, name: str, seed: int) -> Any:
    values = _counts(space)
    start = np.broadcast_to(np.asarray(space.start), space.shape).reshape(-1)
    numbers = keras.ops.cast(keras.ops.reshape(x, (-1, len(values))), "int32") - start.astype(np.int32)
    if _most_values(space) > _MOST_ONE_HOT:
        if values.sum() > _MOST_EMBEDDED:
            raise UnsupportedSpaceError(
                f"observation space {space} is not supported: each of its {values.sum():,} values would have weights "
                f"of its own, and at most {_MOST_EMBEDDED:,} may; gymnasium.wrappers.TransformObservation can make a "
                "Box of it, such as of coordinates"
            )
        if start.any():  # rows of zeros, which pad batches, are none of these integers, and a table has no row for them
            numbers = keras.ops.clip(numbers, 0, (values - 1).astype(np.int32))
        # One table for all components, each with a stretch of its own.
        offsets = np.concatenate([[0], np.cumsum(values)[:-1]]).astype(np.int32)
        table = keras.layers.Embedding(
            int(values.sum()),
            _EMBEDDING_WIDTH,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=1.0, seed=seed),
            name=f"{name}_embedding",
        )
        # Not added, which Keras does by an operation for biases that LiteRT has for floats alone.
        return keras.ops.reshape(table(numbers - -offsets), (-1, len(values) * _EMBEDDING_WIDTH))
    columns = [keras.ops.one_hot(numbers[:, i], int(n), dtype="float32") for i, n in enumerate(values)]
    return columns[0] if len(columns) == 1 else keras.ops.concatenate(columns, axis=-1)


def _counts(space: Discrete | MultiDiscrete) -> NDArray[np.int64]:
    return np.array([space.n]) if isinstance(space, Discrete) else space.nvec.ravel()


def _most_values(space: Discrete | MultiDiscrete) -> int:
    return int(_counts(space).max(initial=0))


def _pixel_range(space: Box) -> tuple[float, float] | None:
    """The bounds by which an image is scaled to [0, 1]; None for one that is taken as it is."""
    low, high = float(space.low.min()), float(space.high.max())
    scales = math.isfinite(high - low) and high > low and (space.dtype.kind != "f" or high > _LARGE)
    return (low, high) if scales else None


def _image(
    x: Any, space: Box, settings: NetworkSettings, bounds: tuple[float, float] | None, name: str, seed: int, text: Any
) -> Any:
    kind = _convolutions(space, settings.network)
    height, width, channels = image_shape(space.shape)
    if min(height, width) > _LARGEST_SIDE:
        logger.warning(
            "images of %d by %d are large for a %s and train slowly; smaller ones make: --set "
            'wrappers=\'[{"name": "ResizeObservation", "kwargs": {"shape": [84, 84]}}]\'',
            height,
            width,
            kind.name,
        )
    x = keras.ops.cast(x, "float32")
    if len(space.shape) == 2:
        x = keras.ops.expand_dims(x, -1)
    elif space.shape != (height, width, channels):
        x = keras.ops.transpose(x, (0, 2, 3, 1))
    if bounds is not None:
        low, high = bounds
        x = (x - low) / (high - low)
    for i, (filters, size, stride) in enumerate(kind.layers):
        convolution = keras.layers.Conv2D(
            filters,
            size,
            stride,
            kernel_initializer=orthogonal(math.sqrt(2), seed + i),
            name=f"{name}_convolution_{i}",
        )
        x = activated(convolution, x, "relu" if text is None else "linear", settings.layer_normalization)
        if text is not None:
            x = keras.ops.relu(_modulated(x, text, f"{name}_{i}", seed + 10 + i))
    x = keras.layers.Flatten(name=f"{name}_flat")(x)
    dense = keras.layers.Dense(
        kind.dense,
        kernel_initializer=orthogonal(math.sqrt(2), seed + len(kind.layers)),
        name=f"{name}_dense",
    )
    return activated(dense, x, "relu", settings.layer_normalization)


def _check_size(name: str, space: Box, images: str) -> None:
    height, width, _ = image_shape(space.shape)
    smallest = _convolutions(space, images).smallest
    if min(height, width) < smallest:
        raise UnsupportedSpaceError(
            f"network={images} reads images of {smallest} by {smallest} pixels or more, and {name} has {height} by "
            f"{width}; use small_cnn, or leave it at auto"
        )


def _modulated(x: Any, text: Any, name: str, seed: int) -> Any:
    """Feature maps ``[B, H, W, C]``, each scaled and shifted as a text's features ``[B, F]`` say.

    What an instruction means is a product of text and image, which dense layers over both have to find first. Perez et
    al. 2018, "FiLM: visual reasoning with a general conditioning layer", section 2; BabyAI's policies read their
    instructions that way (Chevalier-Boisvert et al. 2019, section 4).
    """
    channels = x.shape[-1]
    scale, shift = (
        keras.layers.Dense(channels, kernel_initializer=orthogonal(1.0, seed + 10 * k), name=f"{name}_{what}")(text)
        for k, what in enumerate(("scale", "shift"))
    )
    return x * (1.0 + keras.ops.reshape(scale, (-1, 1, 1, channels))) + keras.ops.reshape(shift, (-1, 1, 1, channels))


def _convolutions(space: Box, images: str) -> _Convolutions:
    if images in FOR_IMAGES:
        return FOR_IMAGES[images]
    height, width, _ = image_shape(space.shape)
    return _NATURE if min(height, width) >= _NATURE.smallest else _SMALL
