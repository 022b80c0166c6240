"""Parses requests, with this project's errors."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf import message

from pgkeras.errors import InvalidRequestError

__all__ = ["parse"]

_Message = TypeVar("_Message", bound=message.Message)


def parse(kind: type[_Message], data: bytes) -> _Message:
    """Parses a message.

    If grpcio parsed it, an invalid message would end the call with UNKNOWN and log a traceback, so any client could
    fill the disk.

    Raises:
        InvalidRequestError: The bytes are not a message of this kind.
    """
    try:
        return kind.FromString(data)
    except message.DecodeError as error:
        raise InvalidRequestError(
            "message", "a protocol buffer of this method's request", f"other bytes: {error}"
        ) from error
