"""The codec: what goes in comes out, and what is malformed is refused."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
from google.protobuf import struct_pb2
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pgkeras.errors import InvalidRequestError, UnsupportedSpaceError
from pgkeras.protocol import wire
from pgkeras.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from pgkeras.spaces.spec import DistributionKind, PolicySpec
from pgkeras.v1 import policy_pb2, spaces_pb2, tensors_pb2

NAMES = ["bool", "uint8", "int8", "uint16", "int16", "int32", "int64", "float16", "float32", "float64"]
ARRAYS = st.sampled_from(NAMES).flatmap(
    lambda name: hnp.arrays(np.dtype(name), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)


@given(ARRAYS)
def test_tensors_come_back_as_they_went(array):
    message = tensors_pb2.Tensor.FromString(wire.encode_tensor(array).SerializeToString())
    back = wire.decode_tensor(message, "x")
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


@given(ARRAYS)
def test_memory_order_and_byte_order_do_not_matter(array):
    message = wire.encode_tensor(array)
    assert wire.encode_tensor(np.asfortranarray(array)).data == message.data
    assert wire.encode_tensor(array.astype(array.dtype.newbyteorder(">"))) == message


def test_the_bytes_are_little_endian_in_c_order():
    message = wire.encode_tensor(np.array([[1, 2], [3, 256]], np.int16))
    assert message.data == bytes([1, 0, 2, 0, 3, 0, 0, 1])
    assert list(message.shape) == [2, 2]
    assert message.dtype == tensors_pb2.DATA_TYPE_INT16


@given(
    st.integers(-1, 20),
    st.lists(st.one_of(st.integers(-2, 5), st.integers(-(2**63), 2**63 - 1)), max_size=40),
    st.binary(max_size=64),
)
def test_any_tensor_message_is_an_array_or_an_invalid_request(dtype, shape, data):
    message = tensors_pb2.Tensor(dtype=dtype, shape=shape, data=data)
    with contextlib.suppress(InvalidRequestError):
        array = wire.decode_tensor(message, "observation.tensor")
        assert array.shape == tuple(shape)
        assert array.tobytes() == data


def test_a_bool_is_0_or_1():
    with pytest.raises(InvalidRequestError, match="bytes of 0 or 1"):
        wire.decode_tensor(tensors_pb2.Tensor(dtype=tensors_pb2.DATA_TYPE_BOOL, shape=[2], data=b"\1\2"), "x")


def test_a_dtype_that_has_no_number_is_refused():
    with pytest.raises(TypeError, match="complex128 cannot be sent"):
        wire.encode_tensor(np.zeros(2, np.complex128))


@st.composite
def boxes(draw):
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    bounds = hnp.arrays(np.float64, shape, elements=st.floats(allow_nan=False))
    a, b = draw(bounds), draw(bounds)
    return Box(np.minimum(a, b), np.maximum(a, b), np.dtype(draw(st.sampled_from(NAMES))))


DISCRETES = st.builds(Discrete, st.integers(1, 2**40), st.integers(-(2**40), 2**40))
MULTI_BINARIES = st.builds(MultiBinary, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))


@st.composite
def multi_discretes(draw):
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    nvec = draw(hnp.arrays(np.int64, shape, elements=st.integers(1, 2**40)))
    start = draw(hnp.arrays(np.int64, shape, elements=st.integers(-(2**40), 2**40)))
    return MultiDiscrete(nvec, start, np.dtype(draw(st.sampled_from(NAMES[1:7]))))


@given(st.one_of(boxes(), DISCRETES, multi_discretes(), MULTI_BINARIES))
def test_spaces_come_back_as_they_went(space):
    message = spaces_pb2.Space.FromString(wire.encode_space(space).SerializeToString())
    assert wire.decode_space(message) == space


@given(boxes(), DISCRETES)
def test_specs_survive_json_and_their_hash_identifies_them(box, discrete):
    spec = PolicySpec(box, discrete, DistributionKind.CATEGORICAL)
    assert wire.spec_from_json(wire.spec_to_json(spec)) == spec
    assert wire.decode_spec(wire.encode_spec(spec)) == spec
    other = PolicySpec(box, Discrete(discrete.n + 1, discrete.start), DistributionKind.CATEGORICAL)
    assert wire.spec_hash(spec) != wire.spec_hash(other)


def test_what_is_unknown_to_this_version_is_refused_by_kind():
    with pytest.raises(UnsupportedSpaceError, match="kind None"):
        wire.decode_space(spaces_pb2.Space())
    text = spaces_pb2.Space(text=spaces_pb2.TextSpace(max_length=2))
    with pytest.raises(UnsupportedSpaceError, match=r"actions of Text\(0, 2\)"):
        wire.decode_spec(policy_pb2.PolicySpec(distribution=1, observation_space=text, action_space=text))
    with pytest.raises(UnsupportedSpaceError, match="DataType 55"):
        wire.decode_space(spaces_pb2.Space(discrete=spaces_pb2.DiscreteSpace(n=2, dtype=55)))
    with pytest.raises(UnsupportedSpaceError, match="distribution kind 99"):
        wire.decode_spec(policy_pb2.PolicySpec(distribution=99))


@given(multi_discretes())
def test_the_size_of_a_mask_survives(space):
    for mask_size in {0, int(space.nvec.sum())}:
        spec = PolicySpec(space, space, DistributionKind.MULTI_CATEGORICAL, mask_size=mask_size)
        assert wire.spec_from_json(wire.spec_to_json(spec)) == spec
    message = wire.encode_spec(PolicySpec(space, space, DistributionKind.MULTI_CATEGORICAL))
    message.mask_size = int(space.nvec.sum()) + 1
    with pytest.raises(ValueError, match="a mask for"):
        wire.decode_spec(message)


@pytest.mark.parametrize(
    "message",
    [
        spaces_pb2.MultiDiscreteSpace(nvec=[2, 3], start=[0, 0], shape=[3], dtype=tensors_pb2.DATA_TYPE_INT64),
        spaces_pb2.MultiDiscreteSpace(nvec=[2, 3], start=[0], shape=[2], dtype=tensors_pb2.DATA_TYPE_INT64),
        spaces_pb2.MultiDiscreteSpace(nvec=[2, 0], start=[0, 0], shape=[2], dtype=tensors_pb2.DATA_TYPE_INT64),
        spaces_pb2.MultiDiscreteSpace(nvec=[2], start=[0], shape=[-1], dtype=tensors_pb2.DATA_TYPE_INT64),
        spaces_pb2.MultiBinarySpace(shape=[-2]),
        spaces_pb2.MultiBinarySpace(shape=[2**40]),
        spaces_pb2.MultiBinarySpace(shape=[1] * 33),
    ],
)
def test_numbers_that_are_no_space_are_refused(message):
    name = "multi_discrete" if isinstance(message, spaces_pb2.MultiDiscreteSpace) else "multi_binary"
    with pytest.raises(ValueError, match="Multi"):
        wire.decode_space(spaces_pb2.Space(**{name: message}))


def test_a_few_bytes_cannot_claim_all_memory():
    message = spaces_pb2.BoxSpace(dtype=tensors_pb2.DATA_TYPE_FLOAT32, shape=[10**6, 10**6], low=[0], high=[1])
    with pytest.raises(ValueError, match="at most 32 axes and"):
        wire.decode_space(spaces_pb2.Space(box=message))


@pytest.mark.parametrize(
    "negative",
    [
        {"discrete": spaces_pb2.DiscreteSpace(n=4 - 2**26)},
        {"multi_discrete": spaces_pb2.MultiDiscreteSpace(nvec=[4 - 2**26])},
        {"box": spaces_pb2.BoxSpace(shape=[4 - 2**26])},
        {"multi_binary": spaces_pb2.MultiBinarySpace(shape=[4 - 2**26])},
    ],
    ids=lambda negative: next(iter(negative)),
)
def test_no_part_makes_up_for_the_size_of_another(negative):
    parts = [spaces_pb2.Space(box=spaces_pb2.BoxSpace(shape=[2**26])), spaces_pb2.Space(**negative)]
    assert wire.space_size(spaces_pb2.Space(tuple=spaces_pb2.TupleSpace(spaces=parts))) == 2**26


@pytest.mark.parametrize("kind", DistributionKind)
def test_distributions_come_back_by_name(kind):
    parameters = {name: np.full((2, 3), i, np.float32) for i, name in enumerate(kind.parameters)}
    message = policy_pb2.Distribution()
    for name, array in parameters.items():
        wire.write_tensor(getattr(getattr(message, kind.value), name), array)
    back = wire.decode_distribution(message)
    assert set(back) == set(kind.parameters)
    for name, array in parameters.items():
        np.testing.assert_array_equal(back[name], array)


def test_an_unset_distribution_is_empty():
    assert wire.decode_distribution(policy_pb2.Distribution()) == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.text(max_size=5) | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_structs_come_back_as_they_went(data):
    message = struct_pb2.Struct()
    message.update(data)
    assert wire.decode_struct(struct_pb2.Struct.FromString(message.SerializeToString())) == data


def test_struct_numbers_that_json_cannot_write_do_no_harm():
    message = struct_pb2.Struct()
    message.update({"a": math.nan, "b": math.inf, "c": 3})
    back = wire.decode_struct(message)
    assert math.isnan(back["a"])
    assert back["b"] == math.inf
    assert repr(back["c"]) == "3"
