"""Parses requests with errors of our own."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf import message

from pgkeras.errors import InvalidRequestError

__all__ = ["parse"]

_Message = TypeVar("_Message", bound=message.Message)


def parse(kind: type[_Message], data: bytes) -> _Message:
    """The message in some bytes.

    Were grpcio to parse it, it would end the call with UNKNOWN and write a traceback into the log for each, which
    anybody could fill a disk with.

    Raises:
        InvalidRequestError: They are none.
    """
    try:
        return kind.FromString(data)
    except message.DecodeError as error:
        raise InvalidRequestError(
            "message", "a protocol buffer of this method's request", f"other bytes: {error}"
        ) from error
