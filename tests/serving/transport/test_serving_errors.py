"""Bad requests: each is refused with its code and details, and the server keeps serving."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgkeras.errors import InvalidRequestError, PolicyNotFoundError, ServerFailedError
from pgkeras.protocol.status import decode_error, read_status
from pgkeras.protocol.wire import encode_tensor
from pgkeras.v1 import policy_pb2, service_pb2, tensors_pb2

ONE = np.zeros(4, np.float32)


def request(observation=ONE, **fields):
    if isinstance(observation, np.ndarray):
        observation = tensors_pb2.Value(tensor=encode_tensor(observation))
    fields.setdefault("policy", policy_pb2.PolicyRef(name="discrete"))
    return service_pb2.ActRequest(observation=observation, **fields)


def raw(dtype=tensors_pb2.DATA_TYPE_FLOAT32, shape=(4,), data=bytes(16)):
    return tensors_pb2.Value(tensor=tensors_pb2.Tensor(dtype=dtype, shape=shape, data=data))


TENSOR = "observation.tensor"
BAD = {
    "NaN": (request(np.array([0, np.nan, 0, 0], np.float32)), "observation", "finite", "nan at index [1]"),
    "infinity": (request(np.array([[0] * 4, [0, 0, 0, np.inf]], np.float32)), "observation", "finite", "[1, 3]"),
    "shape": (request(np.zeros(3, np.float32)), "observation", "[4] or [batch, 4]", "shape [3]"),
    "rank": (request(np.zeros((2, 2, 4), np.float32)), "observation", "[4] or [batch, 4]", "shape [2, 2, 4]"),
    "dtype": (request(np.zeros(4, np.float64)), "observation", "dtype float32", "dtype float64"),
    "empty batch": (request(np.zeros((0, 4), np.float32)), "observation", "at least one", "empty"),
    "oversize batch": (request(np.zeros((4097, 4), np.float32)), "observation", "at most 4096", "4097"),
    "nothing": (request(observation=None), "observation", "tensor", "nothing"),
    "texts": (request(observation=tensors_pb2.Value(texts={"texts": ["a"]})), "observation", "tensor", "texts"),
    "mask": (request(action_mask=encode_tensor(np.ones((1, 3), bool))), "action_mask", "no mask", "a mask"),
    "state": (request(state=b"abc"), "state", "no memory", "3 bytes"),
    "mode": (request(mode=99), "mode", "ActMode", "99"),
    "unspecified output": (request(outputs=[0]), "outputs", "ActOutput", "[0]"),
    "unknown output": (request(outputs=[1, 77]), "outputs", "ActOutput", "[77]"),
    "tensor dtype": (request(observation=raw(dtype=0)), f"{TENSOR}.dtype", "DataType", "0"),
    "tensor length": (request(observation=raw(shape=(5,))), f"{TENSOR}.data", "20 bytes", "16 bytes"),
    "negative length": (request(observation=raw(shape=(-4,))), f"{TENSOR}.shape", "at least 0", "-4"),
    "two negative lengths": (request(observation=raw(shape=(-2, -2))), f"{TENSOR}.shape", "at least 0", "-2"),
    "huge empty": (request(observation=raw(shape=(0, 2**62, 2**62), data=b"")), f"{TENSOR}.shape", "memory", "0"),
    "many axes": (request(observation=raw(shape=[1] * 100_000)), f"{TENSOR}.shape", "32 axes", "100000"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_refused_by_field(stub, name):
    message, field, expected, got = BAD[name]
    with pytest.raises(grpc.RpcError) as caught:
        stub.Act(message, timeout=10)
    error = caught.value
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    bad_request = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(bad_request)
    assert [violation.field for violation in bad_request.field_violations] == [field]
    assert expected in bad_request.field_violations[0].description
    assert got in bad_request.field_violations[0].description
    translated = decode_error(read_status(error.code().value[0], error.details(), error.trailing_metadata()))
    assert isinstance(translated, InvalidRequestError)
    assert translated.field == field
    assert expected in translated.expected
    assert got in translated.got
    assert str(translated) == error.details()


@pytest.mark.parametrize("name", ["nobody", "../discrete", "discrete/1", "/etc", ".", "..", "discrete\x00", "Discrete"])
def test_an_error_about_an_unknown_policy_lists_the_policies(connect, name):
    with pytest.raises(PolicyNotFoundError) as caught:
        connect(name).act(ONE)
    assert repr(name) in str(caught.value)
    assert "discrete (version 1, 2), gaussian (version 1)" in str(caught.value)


def test_an_error_about_a_version_label_or_missing_name_lists_the_choices(connect, stub):
    for version in (3, 0, -1):
        with pytest.raises(PolicyNotFoundError, match=rf"'discrete' has no version {version}; there is: discrete"):
            connect(version=version).describe()
    with pytest.raises(PolicyNotFoundError, match="a name is needed: discrete"):
        connect("").describe()
    with pytest.raises(grpc.RpcError) as caught:
        stub.Act(request(policy=policy_pb2.PolicyRef(name="discrete", label="stable")))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "policy 'discrete' has no label 'stable'; its labels: none"


def test_an_unknown_method_is_unimplemented(channel):
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/pgkeras.v1.PolicyService/Learn")(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    translated = decode_error(read_status(caught.value.code().value[0], caught.value.details(), ()))
    assert isinstance(translated, ServerFailedError)
    assert "UNIMPLEMENTED" in str(translated)


GOOD = request(np.ones((2, 4), np.float32), seed=1, spec_hash="").SerializeToString()


@st.composite
def mutated(draw):
    data = bytearray(GOOD)
    for _ in range(draw(st.integers(1, 6))):
        position = draw(st.integers(0, len(data) - 1))
        if draw(st.booleans()):
            data[position] = draw(st.integers(0, 255))
        else:
            del data[position : position + draw(st.integers(1, 4))]
            data = data or bytearray(GOOD)
    return bytes(data)


def parses(data):
    try:
        service_pb2.ActRequest.FromString(data)
    except DecodeError:
        return False
    return True


UNPARSED = {grpc.StatusCode.INVALID_ARGUMENT}
REFUSALS = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION}


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutated())
def test_no_bytes_break_the_server(server, channel, data):
    call = channel.unary_unary("/pgkeras.v1.PolicyService/Act")
    outcome = call.future(data, timeout=10)
    if outcome.code() is grpc.StatusCode.OK:
        assert service_pb2.ActResponse.FromString(outcome.result()).HasField("action")
    else:
        assert outcome.code() in (REFUSALS if parses(data) else UNPARSED)
    assert service_pb2.ActResponse.FromString(call(GOOD, timeout=10)).HasField("action")
    assert server.process.poll() is None


@pytest.mark.parametrize("letter", ["x", "\u00e4", "\U0001f600"])
def test_long_texts_from_the_caller_do_not_hide_the_reason(connect, stub, letter):
    """gRPC drops trailing metadata of more than 8 kB and then reports RESOURCE_EXHAUSTED."""
    with pytest.raises(PolicyNotFoundError, match="no policy '"):
        connect(letter * 20_000).describe()
    with pytest.raises(grpc.RpcError) as caught:
        stub.Act(request(outputs=list(range(70, 5070))))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
