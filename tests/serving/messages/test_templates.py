"""Patterns compared with the parser: a matching message equals the template except for the extracted values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pgkeras_serving.messages.templates import FieldPath, Pattern, Patterns, number, varint

from pgkeras.v1 import service_pb2, tensors_pb2

KIND = service_pb2.PlayRequest
PLACES = {
    "id": FieldPath.of(KIND, "id"),
    "seed": FieldPath.of(KIND, "seed"),
    "observation": FieldPath.of(KIND, "observation.tensor.data"),
    "reward": FieldPath.of(KIND, "reward.data"),
}

messages = st.builds(
    KIND,
    id=st.integers(0, 2**64 - 1),
    seed=st.none() | st.integers(0, 2**64 - 1),
    spec_hash=st.text(max_size=3),
    mode=st.integers(0, 2),
    outputs=st.lists(st.integers(1, 5), max_size=3),
    observation=st.builds(
        tensors_pb2.Value,
        tensor=st.builds(
            tensors_pb2.Tensor,
            dtype=st.just(9),
            shape=st.lists(st.integers(0, 3), max_size=2),
            data=st.binary(max_size=9),
        ),
    ),
    reward=st.none() | st.builds(tensors_pb2.Tensor, data=st.binary(max_size=300)),
)


def values_of(message):
    values = {
        "id": message.id,
        "seed": message.seed if message.HasField("seed") else None,
        "observation": message.observation.tensor.data,
        "reward": message.reward.data,
    }
    return {name: value for name, value in values.items() if value or (name == "seed" and value is not None)}


@given(messages)
def test_a_pattern_extracts_a_messages_values(message):
    data = message.SerializeToString()
    read = Pattern(data, PLACES).match(data).groupdict()
    for name in ("id", "seed"):
        if name in read:
            read[name] = number(read[name])
    assert read == values_of(message)


@given(messages, messages, st.data())
@settings(max_examples=300)
def test_a_matching_message_differs_only_in_the_values(known, other, data):
    known, other = known.SerializeToString(), bytearray(other.SerializeToString())
    pattern = Pattern(known, PLACES)
    if data.draw(st.booleans()):  # an independent message hardly ever matches
        other = bytearray(known)
        for at in data.draw(st.lists(st.integers(0, max(len(known) - 1, 0)), max_size=4)):
            if at < len(other):
                other[at] = data.draw(st.integers(0, 255))
    match = pattern.match(bytes(other))
    if match is None:
        return
    read = match.groupdict()
    want, got = KIND.FromString(known), KIND.FromString(bytes(other))
    assert len(other) == len(known)
    for name in ("id", "seed"):
        if name in read:
            assert getattr(got, name) == number(read[name])
            setattr(want, name, number(read[name]))
    if "observation" in read:
        want.observation.tensor.data = read["observation"]
    if "reward" in read:
        want.reward.data = read["reward"]
    assert got == want


def test_values_are_written_where_they_are_read():
    tensor = tensors_pb2.Tensor(dtype=9, shape=[2], data=bytes(8))
    message = KIND(id=300, observation=tensors_pb2.Value(tensor=tensor), reward=tensor, spec_hash="h")
    pattern = Pattern(message.SerializeToString(), PLACES)
    new = {"id": varint(16_383), "observation": b"abcdefgh", "reward": b"ABCDEFGH"}
    message.id = 16_383
    message.observation.tensor.data, message.reward.data = b"abcdefgh", b"ABCDEFGH"
    assert KIND.FromString(pattern.write(new[name] for name in pattern.names)) == message


def test_a_repeated_field_is_left_to_the_parser():
    one = KIND(reward=tensors_pb2.Tensor(dtype=9, data=b"abcd")).SerializeToString()
    with pytest.raises(ValueError, match="repeated"):
        Pattern(one + one, PLACES)
    known = Patterns(PLACES)
    known.learn(one + one, "meaning")
    assert known.read(one + one) is None


def test_a_field_of_another_type_is_left_to_the_parser():
    with pytest.raises(ValueError, match="another wire type"):
        Pattern(varint(PLACES["id"].path[0] << 3 | 2) + b"\x01x", PLACES)


def test_the_cache_of_patterns_is_bounded():
    known = Patterns(PLACES)
    for i in range(1000):
        known.learn(KIND(spec_hash=f"{i:04}").SerializeToString(), i)
        known.learn(KIND(spec_hash="x" * i).SerializeToString(), i)
    kept = [i for i in range(1000) if known.read(KIND(spec_hash="x" * i).SerializeToString()) is not None]
    assert 0 < len(kept) < 300
    assert known.read(KIND(spec_hash="0000").SerializeToString()) == (0, {})


def test_a_message_with_a_large_constant_part_is_not_cached():
    known = Patterns(PLACES)
    message = KIND(spec_hash="x" * 3000, reward=tensors_pb2.Tensor(data=b"abcd")).SerializeToString()
    known.learn(message, "meaning")
    assert known.read(message) is None
    message = KIND(spec_hash="x", reward=tensors_pb2.Tensor(data=bytes(10**6))).SerializeToString()
    known.learn(message, "meaning")
    assert known.read(message) == ("meaning", {"reward": bytes(10**6)})


@given(st.integers(0, 2**64 - 1))
def test_varints_are_as_protobuf_writes_them(value):
    written = KIND(id=value).SerializeToString()
    assert written[1:] == (varint(value) if value else b"")
    assert number(varint(value)) == value


def test_large_observations_are_read():
    data = np.arange(2**20, dtype=np.uint8).tobytes()
    message = KIND(observation=tensors_pb2.Value(tensor=tensors_pb2.Tensor(data=data))).SerializeToString()
    assert Pattern(message, PLACES).match(message).groupdict() == {"observation": data}
