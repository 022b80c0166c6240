"""Converts subclasses of PolicyServiceError to gRPC status codes and back.

A server sends an error as a ``google.rpc.Status`` in the trailing metadata ``grpc-status-details-bin``, which is the
convention of all gRPC languages. Codes are plain integers here (``google.rpc.Code``), so that any transport can use
this module.
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
# A stopping server cancels the remaining calls. Codes that are missing here map to ServerFailedError.
_ERRORS: dict[int, type[PolicyServiceError]] = {code: error for error, code in _CODES.items()} | {
    code_pb2.CANCELLED: ServerUnavailableError
}

_DOMAIN = "pgkeras"
_DEFAULT_RETRY_SECONDS = 1.0
_LONGEST_RETRY_SECONDS = 365 * 24 * 3600.0
_MAX_BYTES = 1_500  # of a message, which is sent twice, once with three characters per non-ASCII byte
_MAX_BYTES_OF_A_PART = 500
_SIZE_REFUSAL = "larger than max"  # part of gRPC's own message for an oversized message; it has no details


def encode_error(error: PolicyServiceError) -> status_pb2.Status:
    """Encodes an error. BadRequest names the field of an invalid request, and RetryInfo the delay before a retry."""
    code = next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), code_pb2.INTERNAL)
    # For an invalid request, the parts of the message are sent as well.
    most = _MAX_BYTES_OF_A_PART if isinstance(error, InvalidRequestError) else _MAX_BYTES
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


def _cut(text: str, most: int = _MAX_BYTES_OF_A_PART) -> str:
    """Truncates a text that may quote a request: gRPC drops trailing metadata of more than 8 kB with the status."""
    data = text.encode()
    return text if len(data) <= most else f"{data[:most].decode(errors='ignore')}\u2026"


def decode_error(status: status_pb2.Status) -> PolicyServiceError:
    """Decodes an error; the inverse of :func:`encode_error`. Statuses of other origin become the most similar error."""
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
    """Returns the Status of a finished call, from its trailing metadata if valid, else from code and message."""
    for key, value in trailing_metadata:
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                status = status_pb2.Status.FromString(value)
            except DecodeError:  # damaged in transit, for example by a proxy
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
    """Returns the delay of RetryInfo, at most a year; None if it is missing or not positive."""
    retry = _detail(status, error_details_pb2.RetryInfo)
    seconds = 0.0 if retry is None else retry.retry_delay.ToNanoseconds() / 1e9
    return min(seconds, _LONGEST_RETRY_SECONDS) if seconds > 0 else None


def _detail(status: status_pb2.Status, kind: type[Any]) -> Any | None:
    for packed in status.details:
        message = kind()
        with contextlib.suppress(DecodeError):  # ignores damaged details
            if packed.Unpack(message):
                return message
    return None


def _code_name(code: int) -> str:
    return code_pb2.Code.Name(code) if code in code_pb2.Code.values() else f"status {code}"
