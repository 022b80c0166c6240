"""Observations of any space as rows, their tokens, and the inverse."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces as gym
from hypothesis import given, settings
from hypothesis import strategies as st

from pgkeras.errors import InvalidRequestError, UnsupportedSpaceError
from pgkeras.protocol.values import cast, decode_value, is_single, with_batch_axis, write_value
from pgkeras.protocol.wire import decode_space, encode_space
from pgkeras.spaces import Dict, Discrete, MultiDiscrete, Text, Tuple, map_texts, observations_from_gymnasium, tokenizer
from pgkeras.spaces.layout import Layout
from pgkeras.v1 import tensors_pb2

NESTED = gym.Dict(
    {
        "camera": gym.Box(0, 255, (4, 3, 2), np.uint8),
        "arm": gym.Dict({"angle": gym.Box(-np.pi, np.pi, (), np.float64), "grip": gym.Discrete(3, start=-1)}),
        "order": gym.Text(12, charset="abc xyz"),
        "pair": gym.Tuple((gym.MultiBinary((2, 2)), gym.MultiDiscrete([3, 5]))),
    }
)
GYMNASIUM_SPACES: list[gymnasium.Space[Any]] = [
    NESTED,
    gym.Tuple((gym.Discrete(4), gym.Discrete(7))),
    gym.Text(5),
    gym.Dict({"only": gym.Box(0, 1, (3,), np.float32)}),
    gym.Dict({"said": gym.Dict({"how": gym.Text(5), "what": gym.Text(5)}), "seen": gym.Box(0, 1, (2,), np.float32)}),
]


def converted(space: gymnasium.Space[Any]) -> Any:
    texts = ["a b", "xyz c", "abc"]
    return map_texts(
        observations_from_gymnasium(space),
        lambda text, _: tokenizer.with_vocabulary(text, texts if " " in text.charset else ["hello"]),
    )


def batch_of(samples: list[Any]) -> Any:
    """Joins single values into a batch."""
    first = samples[0]
    if isinstance(first, dict):
        return {key: batch_of([sample[key] for sample in samples]) for key in first}
    if isinstance(first, tuple):
        return {str(i): batch_of([sample[i] for sample in samples]) for i in range(len(first))}
    return samples if isinstance(first, str) else np.array(samples)


@pytest.mark.parametrize("space", GYMNASIUM_SPACES, ids=str)
def test_unpack_inverts_pack(space: gymnasium.Space[Any]) -> None:
    space.seed(3)
    samples = [space.sample() for _ in range(9)]
    layout = Layout.of(converted(space))
    rows = layout.pack(batch_of(samples))
    assert (rows.shape, rows.dtype) == ((9, *layout.shape), np.float32)
    values, mask = layout.unpack(rows)
    assert mask is None
    np.testing.assert_array_equal(layout.pack(values), rows)
    written = np.full_like(rows, np.nan)
    for row, sample in zip(written, samples, strict=True):
        layout.write(row, sample)
    np.testing.assert_array_equal(written, rows)
    if space is not GYMNASIUM_SPACES[2]:
        for leaf in layout.leaves:
            if not isinstance(leaf.space, Text):
                value: Any = values
                wanted: Any = batch_of(samples)
                for key in leaf.path:
                    value, wanted = value[key], wanted[key]
                np.testing.assert_allclose(value, wanted, rtol=1e-6)
                assert value.dtype == leaf.space.dtype


def test_batches_of_vector_environments_are_written_like_single_observations() -> None:
    space = gym.Dict({"a": gym.Box(-1, 1, (2, 2), np.float32), "b": gym.Text(6), "c": gym.Discrete(4)})
    layout = Layout.of(converted(space))
    samples = [space.sample() for _ in range(4)]
    one_by_one = np.zeros((4, *layout.shape), np.float32)
    for row, sample in zip(one_by_one, samples, strict=True):
        layout.write(row, sample)
    together = np.zeros_like(one_by_one)
    layout.write(
        together,
        {
            "a": np.stack([s["a"] for s in samples]),
            "b": tuple(s["b"] for s in samples),
            "c": np.array([s["c"] for s in samples]),
        },
    )
    np.testing.assert_array_equal(together, one_by_one)


def test_masks_are_at_the_end_of_a_row() -> None:
    layout = Layout.of(
        observations_from_gymnasium(gym.Box(0, 255, (2, 2), np.uint8)),
        MultiDiscrete(np.array([2, 1]), np.zeros(2, int)),
    )
    rows = layout.pack(np.arange(8, dtype=np.uint8).reshape(2, 2, 2), np.array([[1, 0, 1], [0, 0, 1]]))
    np.testing.assert_array_equal(rows, [[0, 1, 2, 3, 1, 0, 1], [4, 5, 6, 7, 0, 0, 1]])
    np.testing.assert_array_equal(layout.pack(np.zeros((1, 2, 2), np.uint8))[0, 4:], 1)  # all allowed
    values, mask = layout.unpack(rows)
    np.testing.assert_array_equal(values, np.arange(8).reshape(2, 2, 2))
    np.testing.assert_array_equal(mask, [[True, False, True], [False, False, True]])
    row = np.zeros(7, np.float32)
    layout.write(row, np.zeros((2, 2), np.uint8), (np.array([1, 0], np.int8), np.array([1], np.int8)))
    np.testing.assert_array_equal(row[4:], [1, 0, 1])  # from one array per component of the MultiDiscrete


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        ({"a": np.zeros(3, np.float32), "b": 0}, r"a of shape \(2,\), got \(3,\)"),
        ({"a": np.zeros(2, np.complex64), "b": 0}, "complex64"),
        ({"a": np.zeros(2, np.float32), "c": 0}, "expected an observation with the part 'b', got one with 'a', 'c'"),
        (3.5, r"expected an observation with the part 'a', got 3\.5"),
    ],
)
def test_observations_of_environments_are_validated(observation: Any, message: str) -> None:
    layout = Layout.of(observations_from_gymnasium(gym.Dict({"a": gym.Box(0, 1, (2,)), "b": gym.Discrete(2)})))
    with pytest.raises((ValueError, TypeError), match=message):
        layout.write(np.zeros(layout.shape, np.float32), observation)


def test_integers_beyond_the_precision_of_float32_are_rejected() -> None:
    with pytest.raises(UnsupportedSpaceError, match=r"Discrete\(16777218\) of big"):
        Layout.of(Dict({"big": Discrete(2**24 + 2)}))
    Layout.of(Discrete(2**24 + 2))  # a Discrete that is not packed stays an integer


@pytest.mark.parametrize("space", GYMNASIUM_SPACES, ids=str)
def test_spaces_and_values_survive_encoding_and_decoding(space: gymnasium.Space[Any]) -> None:
    mine = converted(space)
    there = decode_space(encode_space(mine))
    assert there == mine
    assert str(there) == str(mine)
    samples = [space.sample() for _ in range(3)]
    message = tensors_pb2.Value()
    write_value(message, cast(batch_of(samples), mine))
    batch, has_batch_axis = there.batched(decode_value(message, there))
    assert has_batch_axis
    layout = Layout.of(mine)
    np.testing.assert_array_equal(layout.pack(batch), layout.pack(batch_of(samples)))
    single = cast(samples[0], mine)
    assert is_single(single, mine)
    assert not is_single(cast(batch_of(samples), mine), mine)
    np.testing.assert_array_equal(layout.pack(with_batch_axis(single)), layout.pack(batch)[:1])
    message = tensors_pb2.Value()
    write_value(message, single)
    alone, has_batch_axis = there.batched(decode_value(message, there))
    assert has_batch_axis == isinstance(there, Text)  # a single text is decoded as a batch of one
    np.testing.assert_array_equal(layout.pack(alone), layout.pack(batch)[:1])


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"a": np.zeros((2, 2), np.float32)}, "observation.b"),
        ({"a": np.zeros((2, 2), np.float32), "b": ["x"]}, "observation.b"),
        ({"a": np.zeros((2, 2), np.float32), "b": ["x", "y" * 9]}, "observation.b"),
        ({"a": np.zeros((2, 3), np.float32), "b": ["x", "y"]}, "observation.a"),
        ({"a": np.full((2, 2), np.nan, np.float32), "b": ["x", "y"]}, "observation.a"),
        ({"a": np.zeros((2, 2), np.float32), "b": ["x", "y"], "c": 1}, "observation.c"),
        ({"a": np.zeros((2, 2), np.float32), "b": ["x", "!"]}, "observation.b"),
        ("text", "observation"),
    ],
)
def test_errors_name_the_invalid_part(value: Any, field: str) -> None:
    space = observations_from_gymnasium(gym.Dict({"a": gym.Box(0, 1, (2,)), "b": gym.Text(5)}))
    with pytest.raises(InvalidRequestError) as caught:
        space.batched(value)
    assert caught.value.field == field


def test_tuples_are_sequences_or_mappings_by_index() -> None:
    space = Tuple((Discrete(3), Discrete(4)))
    assert cast((1, 2), space).keys() == {"0", "1"}
    rows = Layout.of(space).pack(space.batched((np.array([1, 2]), np.array([3, 0])))[0])
    np.testing.assert_array_equal(rows, [[1, 3], [2, 0]])
    with pytest.raises(InvalidRequestError):
        cast((1, 2, 3), space)


def test_words_are_numbered_in_order_and_unknown_words_share_a_number() -> None:
    space = tokenizer.with_vocabulary(Text(), ["Go to the red ball", "go to the key!"])
    assert space.vocabulary == ("!", "ball", "go", "key", "red", "the", "to")
    assert space.max_tokens == 7
    ids = tokenizer.encode(space, ["GO to the blue key", "", "the the"])
    np.testing.assert_array_equal(ids[0], [4, 8, 7, tokenizer.UNKNOWN, 5, 0, 0])
    np.testing.assert_array_equal(ids[1], 0)
    np.testing.assert_array_equal(ids[2], [7, 7, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("examples", [["N", "E", "S", "W"], ["A B", "B A"], ["1 2 3 4", "1 2 3 5", "1 2 3 1"]])
def test_words_of_one_character_are_distinguished(examples: list[str]) -> None:
    space = tokenizer.with_vocabulary(Text(), examples)
    rows = {row.tobytes() for row in tokenizer.encode(space, examples)}
    assert len(rows) == len(examples)
    assert tokenizer.UNKNOWN not in tokenizer.encode(space, examples)


def test_texts_without_spaces_are_read_by_character() -> None:
    space = tokenizer.with_vocabulary(Text(max_length=4, charset="01"), ["0110", "1"])
    assert (space.vocabulary, space.max_tokens) == (("0", "1"), 4)
    np.testing.assert_array_equal(tokenizer.encode(space, ["101"]), [[3, 2, 3, 0]])


@settings(max_examples=200)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=4), st.text(max_size=30))
def test_decoded_texts_encode_to_the_same_numbers(examples: list[str], text: str) -> None:
    space = tokenizer.with_vocabulary(Text(), examples)
    ids = tokenizer.encode(space, [text])
    assert ids.shape == (1, space.max_tokens)
    assert ids.max(initial=0) < len(space.vocabulary) + tokenizer.FIRST
    np.testing.assert_array_equal(tokenizer.encode(space, tokenizer.decode(space, ids)), ids)
