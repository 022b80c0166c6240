"""Encoders: layers from one leaf of an observation to features, one encoder for each kind of leaf."""

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

__all__ = ["IMAGE_NETWORKS", "RAW_NUMBERS", "describe", "encode", "normalized_elements"]

logger = logging.getLogger(__name__)

RAW_NUMBERS = "raw numbers"

_MAX_ONE_HOT = 512
_MAX_EMBEDDED = 10_000_000  # rows of an embedding table, 128 bytes each
_EMBEDDING_WIDTH = 32
_TEXT_UNITS = 64
_MAX_SIDE = 160  # pixels of the shorter side; networks for larger images take many times as long as for 84x84 pixels
_MAX_HALF_RANGE = 1e6  # elements with wider bounds are treated as unbounded, because such bounds are not informative
_MAX_NORMALIZED = 1 << 17  # elements; larger images are not normalized, only scaled
_LARGE = 50.0  # elements with larger bounds are scaled to [-1, 1]


class _Convolutions(NamedTuple):
    name: str
    layers: tuple[tuple[int, int, int], ...]  # filters, kernel size, stride
    dense: int

    @property
    def smallest(self) -> int:
        """Smallest side, in pixels, for which the layers' output has at least one pixel."""
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

IMAGE_NETWORKS = {"nature_cnn": _NATURE, "light_cnn": _LIGHT, "small_cnn": _SMALL}
"""Networks for images, by the value of the setting ``network``."""


def describe(leaf: Leaf, settings: NetworkSettings) -> str:
    """Describes the encoder of a leaf and the preprocessing of its numbers."""
    space = leaf.space
    if isinstance(space, Text):
        return f"embedding of {len(space.vocabulary)} tokens and GRU"
    if settings.network != "mlp" and is_image(space):
        name = _convolutions(space, settings.network).name
        if normalized_elements(leaf, settings).any():
            return f"{name} of normalized pixels"
        return f"{name} of pixels scaled to [0, 1]" if _pixel_range(space) else name
    if isinstance(space, Box):
        return _describe_numbers(space, normalized_elements(leaf, settings))
    if isinstance(space, MultiBinary):
        return RAW_NUMBERS
    return "one-hot" if _max_count(space) <= _MAX_ONE_HOT else "embedding"


def _describe_numbers(space: Box, normalized: NDArray[np.bool_]) -> str:
    if normalized.all():
        return "normalized numbers"
    scaled = bool((_range(space, ~normalized)[1] != 1.0).any())
    others = "numbers scaled by their range" if scaled else RAW_NUMBERS
    return f"{others}, normalized where unbounded" if normalized.any() else others


def normalized_elements(leaf: Leaf, settings: NetworkSettings) -> NDArray[np.bool_]:
    """Returns which elements of a leaf, ``[*leaf.shape]``, are normalized by their running mean and variance."""
    space, setting = leaf.space, settings.normalize_observations
    if not isinstance(space, Box) or setting is False:
        return np.zeros(leaf.shape, np.bool_)
    if setting:
        return np.full(leaf.shape, math.prod(leaf.shape) <= _MAX_NORMALIZED)
    with np.errstate(over="ignore"):
        return ~((space.high / 2 - space.low / 2) < _MAX_HALF_RANGE)


def encode(leaf: Leaf, x: Any, seed: int, settings: NetworkSettings, text: Any = None) -> Any:
    """Builds the layers from a leaf ``[B, *leaf.shape]`` to features ``[B, F]``.

    Bounded images are scaled to [0, 1]. Integers become one-hot vectors, or embeddings if they have more than 512
    values. Texts are read by a GRU. Other bounded numbers are scaled to [-1, 1] if a bound exceeds 50. Normalized
    elements (:func:`normalized_elements`) are not scaled.

    Args:
        leaf: The leaf.
        x: Its symbolic values.
        seed: Seed of the initial weights.
        settings: Settings of the network. ``network`` selects the network for images.
        text: Features ``[B, F]`` of the observation's texts, which modulate the feature maps of images; None without
            texts.

    Raises:
        UnsupportedSpaceError: The image is too small for the network in the settings, or the integers have too many
            values.
    """
    space = leaf.space
    name = re.sub(r"[^\w.]", "_", leaf.name, flags=re.ASCII)
    if name != leaf.name or not name:
        name = f"part_{leaf.start}_{name}"  # unique, because two keys may differ only in the replaced characters
    if isinstance(space, Text):
        return TextReader(len(space.vocabulary) + FIRST, _EMBEDDING_WIDTH, _TEXT_UNITS, seed, name=f"{name}_text")(x)
    if settings.network != "mlp" and is_image(space):
        _check_size(leaf.name, space, settings.network)
        bounds = None if normalized_elements(leaf, settings).any() else _pixel_range(space)
        return _image(x, space, settings, bounds, name, seed, text)
    if isinstance(space, Box | MultiBinary):
        flat = keras.ops.cast(x, "float32")
        if isinstance(space, Box):
            flat = _scaled(flat, space, ~normalized_elements(leaf, settings))
        return flat if len(leaf.shape) == 1 else keras.ops.reshape(flat, (-1, math.prod(leaf.shape)))
    return _integers(space, x, name, seed)


def _scaled(x: Any, space: Box, selected: NDArray[np.bool_]) -> Any:
    """Scales the selected elements to [-1, 1] if they are bounded and a bound is large; returns others unchanged."""
    center, half = _range(space, selected)
    if (half == 1.0).all() and not center.any():
        return x
    return (x - center) / half


def _range(space: Box, selected: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns each element's center and half-width for :func:`_scaled`; 0 and 1 for elements that are not scaled."""
    low, high = space.low, space.high
    with np.errstate(invalid="ignore", over="ignore"):
        half, center = high / 2 - low / 2, high / 2 + low / 2
        scales = np.isfinite(half) & (half > 0) & (np.maximum(np.abs(low), np.abs(high)) > _LARGE)
        scales &= (half < _MAX_HALF_RANGE) & selected
    return np.where(scales, center, 0.0).astype(np.float32), np.where(scales, half, 1.0).astype(np.float32)


def _integers(space: Discrete | MultiDiscrete, x: Any, name: str, seed: int) -> Any:
    counts = _counts(space)
    start = np.broadcast_to(np.asarray(space.start), space.shape).reshape(-1)
    numbers = keras.ops.cast(keras.ops.reshape(x, (-1, len(counts))), "int32") - start.astype(np.int32)
    if _max_count(space) > _MAX_ONE_HOT:
        if counts.sum() > _MAX_EMBEDDED:
            raise UnsupportedSpaceError(
                f"observation space {space} is not supported: it has {counts.sum():,} values, and an embedding may "
                f"have at most {_MAX_EMBEDDED:,}; use gymnasium.wrappers.TransformObservation to convert the "
                "observation to a Box, for example of coordinates"
            )
        if start.any():  # clipped, because the zeros that pad batches would have negative indices
            numbers = keras.ops.clip(numbers, 0, (counts - 1).astype(np.int32))
        # One table for all components. Each component has a separate range of rows.
        offsets = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int32)
        table = keras.layers.Embedding(
            int(counts.sum()),
            _EMBEDDING_WIDTH,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=1.0, seed=seed),
            name=f"{name}_embedding",
        )
        # Subtraction, because Keras adds with a bias operation that LiteRT supports only for floats.
        return keras.ops.reshape(table(numbers - -offsets), (-1, len(counts) * _EMBEDDING_WIDTH))
    columns = [keras.ops.one_hot(numbers[:, i], int(n), dtype="float32") for i, n in enumerate(counts)]
    return columns[0] if len(columns) == 1 else keras.ops.concatenate(columns, axis=-1)


def _counts(space: Discrete | MultiDiscrete) -> NDArray[np.int64]:
    return np.array([space.n]) if isinstance(space, Discrete) else space.nvec.ravel()


def _max_count(space: Discrete | MultiDiscrete) -> int:
    return int(_counts(space).max(initial=0))


def _pixel_range(space: Box) -> tuple[float, float] | None:
    """Returns the bounds for scaling an image to [0, 1]; None if it is not scaled."""
    low, high = float(space.low.min()), float(space.high.max())
    scales = math.isfinite(high - low) and high > low and (space.dtype.kind != "f" or high > _LARGE)
    return (low, high) if scales else None


def _image(
    x: Any, space: Box, settings: NetworkSettings, bounds: tuple[float, float] | None, name: str, seed: int, text: Any
) -> Any:
    kind = _convolutions(space, settings.network)
    height, width, channels = image_shape(space.shape)
    if min(height, width) > _MAX_SIDE:
        logger.warning(
            "images of %d by %d are large for a %s and train slowly; to resize them, use: --set "
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
            f"network={images} reads images of {smallest} by {smallest} pixels or more, but {name} has {height} by "
            f"{width}; use network=small_cnn or network=auto"
        )


def _modulated(x: Any, text: Any, name: str, seed: int) -> Any:
    """Scales and shifts feature maps ``[B, H, W, C]`` by linear functions of a text's features ``[B, F]``.

    This is feature-wise linear modulation (Perez et al. 2018, "FiLM: visual reasoning with a general conditioning
    layer", section 2), which BabyAI's policies use for their instructions (Chevalier-Boisvert et al. 2019, section 4).
    The meaning of an instruction is a product of text and image features. Dense layers over the concatenated features
    would have to learn this product.
    """
    channels = x.shape[-1]
    scale, shift = (
        keras.layers.Dense(channels, kernel_initializer=orthogonal(1.0, seed + 10 * k), name=f"{name}_{what}")(text)
        for k, what in enumerate(("scale", "shift"))
    )
    return x * (1.0 + keras.ops.reshape(scale, (-1, 1, 1, channels))) + keras.ops.reshape(shift, (-1, 1, 1, channels))


def _convolutions(space: Box, images: str) -> _Convolutions:
    if images in IMAGE_NETWORKS:
        return IMAGE_NETWORKS[images]
    height, width, _ = image_shape(space.shape)
    return _NATURE if min(height, width) >= _NATURE.smallest else _SMALL
