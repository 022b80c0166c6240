"""Networks: Keras models from rows of observations to features.

What the layers are follows from the observation space: dense layers for numbers, convolutions for images, an embedding
and a GRU for texts, one-hot vectors for integers; where an observation has several parts, each has an encoder of its
own and their features are joined, and texts say besides how the feature maps of images are scaled and shifted. Any
Keras model takes their place where one is given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pgkeras.backend import keras
from pgkeras.errors import UnsupportedSpaceError
from pgkeras.policy.networks import encoders
from pgkeras.policy.networks.layers import ObservationNormalization, StateIndependent, activated, orthogonal
from pgkeras.settings.groups import NetworkSettings
from pgkeras.spaces import Text
from pgkeras.spaces.images import is_image
from pgkeras.spaces.layout import Layout

__all__ = ["ObservationNormalization", "StateIndependent", "body", "describe", "normalization_for", "orthogonal"]


def body(
    layout: Layout,
    settings: NetworkSettings,
    normalization: ObservationNormalization | None,
    seed: int,
    network: keras.Model | None = None,
) -> keras.Model:
    """From rows ``[B, *layout.shape]`` to features ``[B, F]``.

    Args:
        layout: How observations are laid out.
        settings: What the network is like. ``hidden`` is the width of each dense layer after the encoders; an image
            that is all there is to see has none but its encoder's.
        normalization: Normalises the rows first; None for none.
        seed: Seed of the initial weights.
        network: Takes the place of encoders and dense layers. It is called with the observation, or for an observation
            of several parts with a dictionary of them by their paths ("position", "arm.angle", ...).

    Raises:
        UnsupportedSpaceError: The given network does not fit, or the setting names one for images and there are none.
    """
    images = settings.network
    row = keras.Input(layout.shape, dtype=layout.dtype.name, name="observation")
    seen = row if normalization is None else normalization(row)
    parts = {leaf.name: _part(seen, layout, i) for i, leaf in enumerate(layout.leaves)}
    if network is not None:
        return keras.Model(row, _given(network, parts), name="body")
    if images in encoders.FOR_IMAGES and not any(is_image(leaf.space) for leaf in layout.leaves):
        raise UnsupportedSpaceError(f"network={images} reads images, and the observation has none; leave it at auto")

    def encoded(i: int, text: Any = None) -> Any:
        return encoders.encode(layout.leaves[i], parts[layout.leaves[i].name], seed + 100 * i, settings, text)

    texts = {i: encoded(i) for i, leaf in enumerate(layout.leaves) if isinstance(leaf.space, Text)}
    text = _joined(list(texts.values())) if texts else None
    filled = [i for i, leaf in enumerate(layout.leaves) if math.prod(leaf.shape)]
    x = _joined([texts[i] if i in texts else encoded(i, text) for i in filled])
    if not _is_one_image(layout, images):
        for i, width in enumerate(settings.hidden):
            initial = orthogonal(math.sqrt(2), seed + i)
            dense = keras.layers.Dense(width, kernel_initializer=initial, name=f"hidden_{i}")
            x = activated(dense, x, settings.activation, settings.layer_normalization)
    return keras.Model(row, x, name="body")


def describe(layout: Layout, settings: NetworkSettings) -> str:
    """Describes the network that :func:`body` builds for a layout."""
    dense, images = "-".join(map(str, settings.hidden)), settings.network
    if len(layout.leaves) == 1:
        described = encoders.describe(layout.leaves[0], settings)
        if _is_one_image(layout, images):
            return described
        return f"MLP {dense}" if described == encoders.AS_THEY_ARE else f"{described}, MLP {dense}"
    texts = " and ".join(leaf.name for leaf in layout.leaves if isinstance(leaf.space, Text))
    modulated = f" modulated by {texts}" if texts and images != "mlp" else ""
    parts = ", ".join(
        f"{leaf.name}: {encoders.describe(leaf, settings)}{modulated if is_image(leaf.space) else ''}"
        for leaf in layout.leaves
    )
    return f"{parts}; joined by an MLP {dense}"


def normalization_for(layout: Layout, settings: NetworkSettings) -> ObservationNormalization | None:
    """The normalisation of the elements that the settings say; None where there are none."""
    chosen = np.zeros(layout.shape, np.bool_)
    for leaf in layout.leaves:
        part = chosen[leaf.start : leaf.stop].reshape(leaf.shape) if layout.packed else chosen
        part[...] = encoders.normalised(leaf, settings)
    return ObservationNormalization(chosen, name="normalization") if chosen.any() else None


def _is_one_image(layout: Layout, images: str) -> bool:
    return len(layout.leaves) == 1 and images != "mlp" and is_image(layout.leaves[0].space)


def _joined(features: Sequence[Any]) -> Any:
    return features[0] if len(features) == 1 else keras.ops.concatenate(features, axis=-1)


def _part(row: Any, layout: Layout, i: int) -> Any:
    if not layout.packed:
        return row
    leaf = layout.leaves[i]
    return keras.ops.reshape(row[:, leaf.start : leaf.stop], (-1, *leaf.shape))


def _given(network: keras.Model, parts: dict[str, Any]) -> Any:
    observation = next(iter(parts.values())) if len(parts) == 1 else parts
    shapes = {name: (None, *part.shape[1:]) for name, part in parts.items()}
    taken = next(iter(shapes.values())) if len(shapes) == 1 else shapes
    wanted = f"expected {taken} in, and features of shape (None, F) out"
    takes = getattr(network, "input_shape", None) if network.built and len(parts) == 1 else None
    if takes is not None and takes != next(iter(shapes.values())):
        raise UnsupportedSpaceError(f"network {network.name!r} takes {takes}; {wanted}")
    try:
        features = network(observation)
    except Exception as error:  # a network's layers may raise anything
        raise UnsupportedSpaceError(
            f"network {network.name!r} refuses observations: {type(error).__name__}: {error}; {wanted}"
        ) from error
    if wrong := [v.path for v in network.trainable_variables if v.dtype != "float32"]:
        raise UnsupportedSpaceError(
            f"network {network.name!r} has weights that are not float32 ({', '.join(wrong[:3])}), in which policies "
            'compute; make its layers with dtype="float32"'
        )
    if len(getattr(features, "shape", ())) != 2:
        raise UnsupportedSpaceError(f"network {network.name!r} gives {_shape(features)}; {wanted}")
    return keras.ops.cast(features, "float32")


def _shape(features: Any) -> str:
    shape = getattr(features, "shape", None)
    return repr(features) if shape is None else f"shape {tuple(shape)}"
