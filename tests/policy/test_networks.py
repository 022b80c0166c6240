"""Encoders for each kind of observation, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pgkeras.errors import UnsupportedSpaceError
from pgkeras.policy import networks
from pgkeras.policy.moments import Moments
from pgkeras.policy.policy import Policy
from pgkeras.reinforce.frozen_policy import FrozenPolicy, layers
from pgkeras.settings.groups import NetworkSettings
from pgkeras.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Text, Tuple
from pgkeras.spaces.layout import Layout
from tests.policy.test_memory import sigmoid

RNG = np.random.default_rng(0)


def image(*shape: int, high: float = 255.0, dtype: Any = np.uint8) -> Box:
    return Box(np.zeros(shape), np.full(shape, high), np.dtype(dtype))


def vector(n: int) -> Box:
    return Box(np.full(n, -np.inf), np.full(n, np.inf), np.dtype(np.float32))


def box(low: list[float], high: list[float]) -> Box:
    return Box(np.array(low), np.array(high), np.dtype(np.float32))


def linear(space: Space, network: Any = None, **settings: Any) -> Policy:
    """Returns a policy without hidden layers, whose parameters are a linear function of the encoders' features."""
    policy = Policy(space, Discrete(2), network, settings=NetworkSettings(hidden=(), **settings), seed=3)
    policy.assign([RNG.normal(0, 0.5, w.shape).astype(np.float32) for w in policy.weights()])
    return policy


def relu(x: NDArray[Any]) -> NDArray[Any]:
    return np.maximum(x, 0)


def convolve(x: NDArray[Any], kernel: NDArray[Any], bias: NDArray[Any], stride: int = 1) -> NDArray[Any]:
    """``[B, H, W, C]`` by ``[h, w, C, F]``, without padding."""
    h, w = kernel.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(x, (h, w), axis=(1, 2))[:, ::stride, ::stride]
    return np.asarray(np.einsum("bijchw,hwcf->bijf", windows, kernel) + bias)


@pytest.mark.parametrize(("shape", "strides"), [((9, 8, 3), (1,)), ((40, 44, 2), (4, 2, 1))])
def test_images_are_scaled_and_convolved(shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
    policy = linear(image(*shape))
    x = RNG.integers(0, 256, (3, *shape)).astype(np.uint8)
    *layers, dense, dense_bias, head, head_bias = (w.astype(np.float64) for w in policy.weights())
    expected = x / 255
    for i, stride in enumerate(strides):
        expected = relu(convolve(expected, layers[2 * i], layers[2 * i + 1], stride))
    expected = relu(expected.reshape(3, -1) @ dense + dense_bias) @ head + head_bias
    np.testing.assert_allclose(policy.parameters(x), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("part", [image(9, 8, 3), Discrete(1000), Text(vocabulary=("a",), max_tokens=2)])
def test_parts_of_similar_names_have_separate_layers(part: Space) -> None:
    policy = linear(Dict({"a": Dict({"b": part}), "a_b": part, "a-b": part}))
    names = [layer.name for layer in layers(policy.model)]
    assert len([name for name in names if "a.b" in name]) == len([name for name in names if name.startswith("a_b")]) > 0


def test_an_unnamed_part_and_a_part_named_observation_have_separate_layers() -> None:
    policy = linear(Dict({"": vector(2), "observation": vector(3)}))
    plain = linear(Dict({"a": vector(2), "b": vector(3)}))
    policy.assign(plain.weights())
    x = RNG.normal(size=(4, 5)).astype(np.float32)
    np.testing.assert_array_equal(policy.parameters(x), plain.parameters(x))


def test_empty_parts_are_omitted() -> None:
    nothing = {
        "image": image(0, 5, 5),
        "numbers": vector(0),
        "levers": MultiDiscrete(np.array([], np.int64), np.array([], np.int64)),
    }
    policy, plain = linear(Dict({"x": vector(3), **nothing})), linear(Dict({"x": vector(3)}))
    policy.assign(plain.weights())
    x = RNG.normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_array_equal(policy.parameters(x), plain.parameters(x))


def test_integers_with_too_many_values_are_rejected() -> None:
    with pytest.raises(UnsupportedSpaceError, match="1,000,000,000 values, and an embedding may have at most"):
        linear(Discrete(10**9))


def normalized(x: NDArray[Any], scale: NDArray[Any], shift: NDArray[Any]) -> NDArray[Any]:
    """Ba et al. 2016, equation 3, over the last axis; Keras adds 0.001 to the variance."""
    centred = x - x.mean(-1, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-3) * scale + shift)


def test_hidden_layers_are_normalized_before_their_activation() -> None:
    settings = NetworkSettings(hidden=(8, 6), layer_normalization=True)
    policy = Policy(vector(5), Discrete(2), settings=settings)
    assert policy.architecture == "normalized numbers, MLP 8-6, layer normalization"
    policy.assign([RNG.normal(0, 0.5, w.shape).astype(np.float32) for w in policy.weights()])
    policy.normalization.freeze(Moments.zeros((5,)))
    *hidden, head, bias = (w.astype(np.float64) for w in policy.weights()[:10])
    x = RNG.normal(size=(3, 5)).astype(np.float32)
    expected = x * policy.normalization.scale.numpy()
    for kernel, shift_before, scale, shift in (hidden[:4], hidden[4:]):
        expected = np.tanh(normalized(expected @ kernel + shift_before, scale, shift))
    expected = expected @ head + bias
    np.testing.assert_allclose(policy.parameters(x), expected, rtol=1e-4, atol=1e-5)


def test_convolutions_are_normalized_over_the_features_of_a_pixel() -> None:
    policy = linear(image(9, 8, 3), layer_normalization=True)
    x = RNG.integers(0, 256, (3, 9, 8, 3)).astype(np.uint8)
    *layers, head, bias = (w.astype(np.float64) for w in policy.weights())
    features = relu(normalized(convolve(x / 255, *layers[:2]), *layers[2:4])).reshape(3, -1)
    expected = relu(normalized(features @ layers[4] + layers[5], *layers[6:])) @ head + bias
    np.testing.assert_allclose(policy.parameters(x), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_channels_may_be_first_or_absent() -> None:
    last, first = linear(image(9, 8, 3)), linear(image(3, 9, 8))
    first.assign(last.weights())
    x = RNG.integers(0, 256, (2, 9, 8, 3)).astype(np.uint8)
    np.testing.assert_allclose(first.parameters(x.transpose(0, 3, 1, 2)), last.parameters(x), rtol=1e-5, atol=1e-5)
    grey, one = linear(image(9, 8)), linear(image(9, 8, 1))
    one.assign(grey.weights())
    np.testing.assert_allclose(grey.parameters(x[..., 0]), one.parameters(x[..., :1]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("space", "images", "name"),
    [
        (image(84, 84, 4), "auto", "Nature CNN of pixels scaled to [0, 1]"),
        (image(4, 84, 84), "auto", "Nature CNN of pixels scaled to [0, 1]"),
        (image(10, 10, 6, high=1, dtype=np.bool_), "auto", "small CNN of pixels scaled to [0, 1]"),
        (image(9, 9, 3, high=1, dtype=np.float32), "auto", "small CNN"),
        (image(10, 10, 6), "mlp", "numbers scaled by their range, MLP 32"),
        (image(84, 84, 4), "small_cnn", "small CNN of pixels scaled to [0, 1]"),
        (image(2, 42, 42), "light_cnn", "light CNN of pixels scaled to [0, 1]"),
        (vector(3), "auto", "normalized numbers, MLP 32"),
        (box([-1, 0], [1, 9]), "auto", "MLP 32"),
        (box([-1, -np.inf], [1, 9]), "auto", "raw numbers, normalized where unbounded, MLP 32"),
        (
            box([0, -1e30], [255, 1e30]),
            "auto",
            "numbers scaled by their range, normalized where unbounded, MLP 32",
        ),
        (image(2, 2, 2), "auto", "numbers scaled by their range, MLP 32"),
        (Discrete(5), "auto", "one-hot, MLP 32"),
        (Discrete(5000), "auto", "embedding, MLP 32"),
        (
            Dict({"eye": image(9, 9, 3), "n": Discrete(3), "s": Text(vocabulary=("a",), max_tokens=1), "v": vector(2)}),
            "auto",
            (
                "eye: small CNN of pixels scaled to [0, 1] modulated by s, n: one-hot, s: embedding of 1 tokens and "
                "GRU, v: normalized numbers; joined by an MLP 32"
            ),
        ),
    ],
)
def test_the_selected_network_is_described(space: Space, images: str, name: str) -> None:
    settings = NetworkSettings(hidden=(32,), network=images, memory="lstm")
    assert networks.describe(Layout.of(space), settings) == name
    assert Policy(space, Discrete(2), settings=settings).architecture == f"{name}, LSTM 64"


@pytest.mark.parametrize(("images", "smallest"), [("small_cnn", 3), ("light_cnn", 20), ("nature_cnn", 36)])
def test_images_too_small_for_a_network_are_rejected_by_name(images: str, smallest: int) -> None:
    settings = NetworkSettings(network=images)
    Policy(image(smallest, 50, 1), Discrete(2), settings=settings)
    if smallest > 3:  # a smaller array is not treated as an image
        space = Dict({"number": Discrete(2), "camera": image(50, smallest - 1, 1)})
        wanted = f"{images} reads images of {smallest} by {smallest} .* camera has 50 by {smallest - 1}; use network="
        with pytest.raises(UnsupportedSpaceError, match=wanted):
            Policy(space, Discrete(2), settings=settings)


@pytest.mark.parametrize("images", ["small_cnn", "light_cnn", "nature_cnn"])
def test_networks_for_images_are_rejected_without_images(images: str) -> None:
    with pytest.raises(UnsupportedSpaceError, match=f"network={images} reads images, but the observation has none"):
        Policy(Dict({"v": vector(3), "n": Discrete(2)}), Discrete(2), settings=NetworkSettings(network=images))


def test_integers_become_one_hot_vectors() -> None:
    space = Tuple((Discrete(4, start=-1), MultiDiscrete(np.array([[2], [3]]), np.array([[5], [0]])), MultiBinary((2,))))
    policy = linear(space)
    first, several, bits = np.array([-1, 2]), np.array([[[5], [2]], [[6], [0]]]), np.array([[1, 0], [1, 1]], np.int8)
    rows = policy.spec.layout.pack(space.batched((first, several, bits))[0])
    expected = np.array([[1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 0, 1, 1, 0, 0, 1, 1]], np.float64)
    head, bias = policy.weights()
    np.testing.assert_allclose(policy.parameters(rows), expected @ head + bias, rtol=1e-5, atol=1e-5)
    alone = linear(Discrete(4, start=-1))
    head, bias = alone.weights()
    np.testing.assert_allclose(alone.parameters(first), np.eye(4)[[0, 3]] @ head + bias, rtol=1e-5, atol=1e-5)


def test_integers_with_many_values_are_embedded() -> None:
    policy = linear(MultiDiscrete(np.array([600, 700]), np.array([0, 10])))
    table, head, bias = policy.weights()
    assert table.shape == (1300, 32)
    x = np.array([[599, 10], [3, 709]])
    looked_up = np.concatenate([table[[599, 3]], table[[600, 1299]]], axis=1)
    np.testing.assert_allclose(policy.parameters(x), looked_up @ head + bias, rtol=1e-5, atol=1e-5)
    greedy = FrozenPolicy(policy, "litert", "greedy")
    actions = greedy.act(x, np.zeros((2, 1), np.float32))[0]
    np.testing.assert_array_equal(actions, (looked_up @ head + bias).argmax(axis=1))


def test_padding_is_embedded_for_integers_with_another_start() -> None:
    policy = linear(Discrete(600, start=5000), memory="gru")
    episodes = np.zeros((2, 2), np.int64)  # the second episode has one step
    episodes[:, 0], episodes[0, 1] = [5000, 5599], 5007
    alone = policy.unroll(episodes[:1, 1:])
    np.testing.assert_allclose(policy.unroll(episodes)[1], alone[0], rtol=1e-5, atol=1e-6)
    actor = FrozenPolicy(policy, "litert")  # LiteRT pads batches
    assert actor.act(np.array([5000]), np.zeros((1, 1), np.float32))[0] == [0]


def test_texts_are_read_by_a_gru_to_their_last_token() -> None:
    policy = linear(Text(vocabulary=("go", "left", "right"), max_tokens=4))
    by_shape = {w.shape: w.astype(np.float64) for w in policy.weights()}
    table, kernel, recurrent, bias, head, head_bias = (
        by_shape[shape] for shape in ((5, 32), (32, 192), (64, 192), (2, 192), (64, 2), (2,))
    )
    texts = ["go left", "right go go left", "", "go unknown"]
    ids = [[2, 3], [4, 2, 2, 3], [], [2, 1]]
    expected = []
    for row in ids:
        h = np.zeros(64)
        for token in row:
            xz, xr, xh = np.split(table[token] @ kernel + bias[0], 3)
            hz, hr, hh = np.split(h @ recurrent + bias[1], 3)
            z, r = sigmoid(xz + hz), sigmoid(xr + hr)
            h = z * h + (1 - z) * np.tanh(xh + r * hh)
        expected.append(h @ head + head_bias)
    rows = policy.spec.layout.pack(texts)
    np.testing.assert_allclose(policy.parameters(rows), np.array(expected), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("shape", "strides"), [((9, 8, 3), (1,)), ((40, 44, 2), (4, 2, 1))])
def test_a_text_scales_and_shifts_the_feature_maps_of_images(shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
    said = Text(vocabulary=("a", "b"), max_tokens=2)
    space = Dict({"eye": image(*shape), "said": said})
    policy = linear(space)
    weights = dict(zip(policy.names, policy.weights(), strict=True))
    reader = Policy(said, Discrete(64), settings=NetworkSettings(hidden=()))  # whose parameters are the text's features
    read = [weight for name, weight in weights.items() if name.startswith("said_text")]
    reader.assign([*read, np.eye(64, dtype=np.float32), np.zeros(64, np.float32)])
    x, texts = RNG.integers(0, 256, (4, *shape)).astype(np.uint8), ["a", "b a", "a b", ""]
    text = np.asarray(reader.parameters(reader.spec.layout.pack(texts)), np.float64)
    seen = x / 255
    for i, stride in enumerate(strides):
        scale, shift = (
            (text @ weights[f"eye_{i}_{what}/kernel"] + weights[f"eye_{i}_{what}/bias"])[:, None, None]
            for what in ("scale", "shift")
        )
        maps = convolve(seen, weights[f"eye_convolution_{i}/kernel"], weights[f"eye_convolution_{i}/bias"], stride)
        seen = relu(maps * (1 + scale) + shift)
    eye = relu(seen.reshape(4, -1) @ weights["eye_dense/kernel"] + weights["eye_dense/bias"])
    expected = np.concatenate([eye, text], axis=1) @ weights["head/kernel"] + weights["head/bias"]
    rows = policy.spec.layout.pack(space.batched({"eye": x, "said": np.array(texts)})[0])
    np.testing.assert_allclose(policy.parameters(rows), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_only_numbers_are_normalized_and_then_not_scaled() -> None:
    space = Dict({"eye": image(3, 4, 1), "n": Discrete(3), "v": vector(2)})
    policy = linear(space, normalize_observations=True)
    layout = policy.spec.layout
    assert policy.normalization is not None
    assert np.asarray(policy.normalization.selected).tolist() == [True] * 12 + [False] + [True] * 2
    rows = layout.pack(
        space.batched(
            {
                "eye": RNG.integers(0, 256, (50, 3, 4, 1)).astype(np.uint8),
                "n": RNG.integers(0, 3, 50),
                "v": RNG.normal(5, 2, (50, 2)).astype(np.float32),
            }
        )[0]
    )
    moments = Moments.zeros(layout.shape)
    moments.update(rows)
    assert policy.normalization is not None
    policy.normalization.freeze(moments)
    seen = np.clip((rows - rows.mean(axis=0)) / (rows.std(axis=0) + 1e-6), -10, 10)
    weights = {v.path: v.numpy() for v in policy.model.variables}
    kernel, bias, dense, dense_bias, head, head_bias = (
        next(w for path, w in weights.items() if path.endswith(name))
        for name in (
            "eye_convolution_0/kernel",
            "eye_convolution_0/bias",
            "eye_dense/kernel",
            "eye_dense/bias",
            "head/kernel",
            "head/bias",
        )
    )
    maps = relu(convolve(seen[:, :12].reshape(-1, 3, 4, 1), kernel, bias))
    eye = relu(maps.reshape(50, -1) @ dense + dense_bias)
    features = np.concatenate([eye, np.eye(3)[rows[:, 12].astype(int)], seen[:, 13:]], axis=1)
    np.testing.assert_allclose(policy.parameters(rows), features @ head + head_bias, rtol=1e-3, atol=1e-3)


def test_a_keras_model_may_read_the_parts() -> None:
    import keras

    class Reader(keras.Model):
        def call(self, parts: Any) -> Any:
            return keras.ops.concatenate([parts["a"], keras.ops.reshape(parts["b.0"], (-1, 4))], axis=-1)

    space = Dict({"a": vector(3), "b": Tuple((image(2, 2),))})
    policy = linear(space, network=Reader())
    head, bias = policy.weights()
    rows = RNG.integers(0, 5, (6, 7)).astype(np.float32)
    np.testing.assert_allclose(policy.parameters(rows), rows @ head + bias, rtol=1e-5, atol=1e-5)


def test_large_images_log_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    linear(image(84, 84, 3))
    assert not caplog.records
    Policy(image(161, 170, 3), Discrete(2), settings=NetworkSettings(network="nature_cnn"))
    assert "images of 161 by 170 are large for a Nature CNN and train slowly" in caplog.text
    assert '[{"name": "ResizeObservation", "kwargs": {"shape": [84, 84]}}]' in caplog.text
