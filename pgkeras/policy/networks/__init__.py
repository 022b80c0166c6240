"""Networks: Keras models from rows of observations to features.

The observation space determines the layers: dense layers for numbers, convolutions for images, an embedding and a GRU
for texts, one-hot vectors for integers. Each part of an observation has its own encoder, and the features of all parts
are concatenated. The features of texts also scale and shift the feature maps of images. A user's Keras model can
replace all of these layers.
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
    """Builds a model from rows ``[B, *layout.shape]`` to features ``[B, F]``.

    Args:
        layout: The layout of observations.
        settings: Settings of the network. ``hidden`` is the width of each dense layer after the encoders. If the
            observation is a single image, these layers are omitted.
        normalization: Normalizes the rows first; None without normalization.
        seed: Seed of the initial weights.
        network: Replaces the encoders and dense layers. It is called with the observation. For an observation of
            several parts, it is called with a dictionary of the parts by path ("position", "arm.angle", ...).

    Raises:
        UnsupportedSpaceError: The given network does not fit, or the settings name a network for images and the
            observation has no image.
    """
    images = settings.network
    row = keras.Input(layout.shape, dtype=layout.dtype.name, name="observation")
    normalized = row if normalization is None else normalization(row)
    parts = {leaf.name: _part(normalized, layout, i) for i, leaf in enumerate(layout.leaves)}
    if network is not None:
        return keras.Model(row, _given(network, parts), name="body")
    if images in encoders.IMAGE_NETWORKS and not any(is_image(leaf.space) for leaf in layout.leaves):
        raise UnsupportedSpaceError(f"network={images} reads images, but the observation has none; use network=auto")

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
        return f"MLP {dense}" if described == encoders.RAW_NUMBERS else f"{described}, MLP {dense}"
    texts = " and ".join(leaf.name for leaf in layout.leaves if isinstance(leaf.space, Text))
    modulated = f" modulated by {texts}" if texts and images != "mlp" else ""
    parts = ", ".join(
        f"{leaf.name}: {encoders.describe(leaf, settings)}{modulated if is_image(leaf.space) else ''}"
        for leaf in layout.leaves
    )
    return f"{parts}; joined by an MLP {dense}"


def normalization_for(layout: Layout, settings: NetworkSettings) -> ObservationNormalization | None:
    """Returns the normalization layer for the elements selected by the settings; None if no element is selected."""
    selected = np.zeros(layout.shape, np.bool_)
    for leaf in layout.leaves:
        part = selected[leaf.start : leaf.stop].reshape(leaf.shape) if layout.packed else selected
        part[...] = encoders.normalized_elements(leaf, settings)
    return ObservationNormalization(selected, name="normalization") if selected.any() else None


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
    input_shapes = next(iter(shapes.values())) if len(shapes) == 1 else shapes
    expected = f"expected inputs of shape {input_shapes} and outputs of shape (None, F)"
    takes = getattr(network, "input_shape", None) if network.built and len(parts) == 1 else None
    if takes is not None and takes != next(iter(shapes.values())):
        raise UnsupportedSpaceError(f"network {network.name!r} takes inputs of shape {takes}; {expected}")
    try:
        features = network(observation)
    except Exception as error:  # a network's layers may raise anything
        raise UnsupportedSpaceError(
            f"network {network.name!r} cannot be called with an observation: {type(error).__name__}: {error}; "
            f"{expected}"
        ) from error
    if wrong := [v.path for v in network.trainable_variables if v.dtype != "float32"]:
        raise UnsupportedSpaceError(
            f"network {network.name!r} has weights that are not float32: {', '.join(wrong[:3])}; create its layers "
            'with dtype="float32"'
        )
    if len(getattr(features, "shape", ())) != 2:
        raise UnsupportedSpaceError(f"network {network.name!r} returns {_shape(features)}; {expected}")
    return keras.ops.cast(features, "float32")


def _shape(features: Any) -> str:
    shape = getattr(features, "shape", None)
    return repr(features) if shape is None else f"shape {tuple(shape)}"
