"""The one table between the children of PolicyServiceError and gRPC status codes, in both directions.

A server's error travels as a ``google.rpc.Status`` under the trailing metadata key ``grpc-status-details-bin``, the
convention of every gRPC language. Codes are plain integers here (``google.rpc.Code``), so that any transport can use
this table.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from google.protobuf import duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from pgkeras.errors import (
    DeadlineExceededError,
    InvalidRequestError,
    PolicyNotFoundError,
    PolicyServiceError,
    ServerBusyError,
    ServerFailedError,
    ServerUnavailableError,
    SpecMismatchError,
    UnauthenticatedError,
)

__all__ = ["DETAILS_KEY", "decode_error", "encode_error", "read_status"]

DETAILS_KEY = "grpc-status-details-bin"

_CODES: dict[type[PolicyServiceError], int] = {
    InvalidRequestError: code_pb2.INVALID_ARGUMENT,
    PolicyNotFoundError: code_pb2.NOT_FOUND,
    SpecMismatchError: code_pb2.FAILED_PRECONDITION,
    ServerBusyError: code_pb2.RESOURCE_EXHAUSTED,
    DeadlineExceededError: code_pb2.DEADLINE_EXCEEDED,
    ServerUnavailableError: code_pb2.UNAVAILABLE,
    UnauthenticatedError: code_pb2.UNAUTHENTICATED,
    ServerFailedError: code_pb2.INTERNAL,
}
# A stopping server cuts off what is left with CANCELLED. Whatever is missing here means ServerFailedError.
_ERRORS: dict[int, type[PolicyServiceError]] = {code: error for error, code in _CODES.items()} | {
    code_pb2.CANCELLED: ServerUnavailableError
}

_DOMAIN = "pgkeras"
_DEFAULT_RETRY_SECONDS = 1.0
_LONGEST_RETRY_SECONDS = 365 * 24 * 3600.0
_MOST_BYTES = 1_500  # of a message, which travels twice, once with three letters for each byte that is not ASCII
_MOST_BYTES_OF_A_PART = 500
_SIZE_REFUSAL = "larger than max"  # gRPC's own words for an oversized message, which comes without details


def encode_error(error: PolicyServiceError) -> status_pb2.Status:
    """An error as a Status: BadRequest names the field of an invalid request, RetryInfo says when to come back."""
    code = next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), code_pb2.INTERNAL)
    # Beside an invalid request's message its parts travel, too.
    most = _MOST_BYTES_OF_A_PART if isinstance(error, InvalidRequestError) else _MOST_BYTES
    status = status_pb2.Status(code=code, message=_cut(str(error), most))
    if isinstance(error, InvalidRequestError):
        expected, got = _cut(error.expected), _cut(error.got)
        description = f"expected {expected}, got {got}"
        violation = error_details_pb2.BadRequest.FieldViolation(field=_cut(error.field), description=description)
        metadata = {"expected": expected, "got": got}
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
        status.details.add().Pack(
            error_details_pb2.ErrorInfo(reason="INVALID_FIELD", domain=_DOMAIN, metadata=metadata)
        )
    elif isinstance(error, (ServerBusyError, ServerUnavailableError)) and error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(round(error.retry_after * 1e9))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def _cut(text: str, most: int = _MOST_BYTES_OF_A_PART) -> str:
    """A text that may hold what a caller has sent: gRPC drops trailing metadata of more than 8 kB, status and all."""
    data = text.encode()
    return text if len(data) <= most else f"{data[:most].decode(errors='ignore')}\u2026"


def decode_error(status: status_pb2.Status) -> PolicyServiceError:
    """The inverse of :func:`encode_error`; statuses that are not of this project's making become the nearest error."""
    kind = _ERRORS.get(status.code, ServerFailedError)
    if kind is ServerBusyError and _SIZE_REFUSAL in status.message:
        return InvalidRequestError("message", "a message within the size limits that GetPolicy states", status.message)
    if kind is InvalidRequestError:
        return _invalid_request(status)
    if kind is ServerBusyError or kind is ServerUnavailableError:
        seconds = _retry_seconds(status)
        if kind is ServerUnavailableError:
            return ServerUnavailableError(status.message, seconds)
        return ServerBusyError(status.message, _DEFAULT_RETRY_SECONDS if seconds is None else seconds)
    if kind is ServerFailedError and status.code != code_pb2.INTERNAL:
        return ServerFailedError(f"{_code_name(status.code)}: {status.message}")
    return kind(status.message)


def read_status(code: int, message: str, trailing_metadata: Iterable[tuple[str, str | bytes]]) -> status_pb2.Status:
    """The Status of a finished call: that of its trailing metadata if it is whole, else just code and message."""
    for key, value in trailing_metadata:
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                status = status_pb2.Status.FromString(value)
            except DecodeError:  # something on the way mangled it
                break
            if status.code == code:
                return status
    return status_pb2.Status(code=code, message=message)


def _invalid_request(status: status_pb2.Status) -> InvalidRequestError:
    bad_request = _detail(status, error_details_pb2.BadRequest)
    info = _detail(status, error_details_pb2.ErrorInfo)
    if bad_request is None or not bad_request.field_violations:
        return InvalidRequestError("request", "one that the server accepts", status.message)
    violation = bad_request.field_violations[0]
    if info is None or info.domain != _DOMAIN:
        return InvalidRequestError(violation.field, "one that the server accepts", violation.description)
    return InvalidRequestError(violation.field, info.metadata["expected"], info.metadata["got"])


def _retry_seconds(status: status_pb2.Status) -> float | None:
    """What RetryInfo says, up to a year; None without one, or where it names no time to wait."""
    retry = _detail(status, error_details_pb2.RetryInfo)
    seconds = 0.0 if retry is None else retry.retry_delay.ToNanoseconds() / 1e9
    return min(seconds, _LONGEST_RETRY_SECONDS) if seconds > 0 else None


def _detail(status: status_pb2.Status, kind: type[Any]) -> Any | None:
    for packed in status.details:
        message = kind()
        with contextlib.suppress(DecodeError):  # a mangled detail is as good as none
            if packed.Unpack(message):
                return message
    return None


def _code_name(code: int) -> str:
    return code_pb2.Code.Name(code) if code in code_pb2.Code.values() else f"status {code}"
