"""The table between errors and gRPC codes, both ways."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from pgkeras import errors
from pgkeras.protocol.status import DETAILS_KEY, decode_error, encode_error, read_status

CHILDREN = errors.PolicyServiceError.__subclasses__()
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def example(kind, text="why"):
    if kind is errors.InvalidRequestError:
        return kind("seed", text, "something else")
    if kind is errors.ServerBusyError:
        return kind(text, 0.25)
    return kind(text)


@pytest.mark.parametrize("kind", CHILDREN)
@given(text=TEXT)
def test_every_error_survives_the_journey(kind, text):
    error = example(kind, text)
    status = encode_error(error)
    metadata = [("other", "x"), (DETAILS_KEY, status.SerializeToString())]
    back = decode_error(read_status(status.code, status.message, metadata))
    assert type(back) is kind
    assert str(back) == str(error)
    assert vars(back) == pytest.approx(vars(error))


def test_codes_are_those_of_the_protocol():
    codes = {kind: grpc.StatusCode[code_pb2.Code.Name(encode_error(example(kind)).code)] for kind in CHILDREN}
    assert codes == {
        errors.InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
        errors.PolicyNotFoundError: grpc.StatusCode.NOT_FOUND,
        errors.SpecMismatchError: grpc.StatusCode.FAILED_PRECONDITION,
        errors.ServerBusyError: grpc.StatusCode.RESOURCE_EXHAUSTED,
        errors.DeadlineExceededError: grpc.StatusCode.DEADLINE_EXCEEDED,
        errors.ServerUnavailableError: grpc.StatusCode.UNAVAILABLE,
        errors.UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
        errors.ServerFailedError: grpc.StatusCode.INTERNAL,
    }


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_a_status_without_details_becomes_the_nearest_error(code):
    error = decode_error(read_status(code.value[0], "the reason", ()))
    assert isinstance(error, errors.PolicyServiceError)
    assert "the reason" in str(error)


def test_retry_info_is_what_other_languages_read():
    status = encode_error(errors.ServerBusyError("full", 1.5))
    retry = error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(retry)
    assert (retry.retry_delay.seconds, retry.retry_delay.nanos) == (1, 500_000_000)


def test_grpcs_own_refusal_of_a_large_message_is_the_callers_error():
    message = "CLIENT: Sent message larger than max (5000000 vs. 4194304)"
    error = decode_error(read_status(code_pb2.RESOURCE_EXHAUSTED, message, ()))
    assert isinstance(error, errors.InvalidRequestError)
    assert "5000000 vs. 4194304" in str(error)


def test_another_servers_bad_request_keeps_its_field():
    status = status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="no")
    violation = error_details_pb2.BadRequest.FieldViolation(field="a.b", description="too long")
    status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    error = decode_error(status)
    assert isinstance(error, errors.InvalidRequestError)
    assert (error.field, error.got) == ("a.b", "too long")


@given(st.binary())
def test_mangled_details_fall_back_to_the_message(data):
    status = read_status(code_pb2.NOT_FOUND, "gone", [(DETAILS_KEY, data)])
    assert (status.code, isinstance(decode_error(status), errors.PolicyNotFoundError)) == (code_pb2.NOT_FOUND, True)


@given(st.binary())
def test_a_mangled_detail_is_as_good_as_none(data):
    status = status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="no")
    status.details.add(type_url="type.googleapis.com/google.rpc.BadRequest", value=data)
    assert isinstance(decode_error(status), errors.InvalidRequestError)
