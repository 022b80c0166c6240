"""Checks the size of responses. gRPC would end a call or a session with INTERNAL if a response is too large."""

from __future__ import annotations

from pgkeras.errors import InvalidRequestError

__all__ = ["check_size"]


def check_size(
    answer: bytes, most: int, field: str = "outputs", instead: str = "ask for fewer observations or outputs at once"
) -> None:
    """Checks that a response is small enough to be sent.

    Args:
        answer: The encoded response.
        most: Maximum size, in bytes.
        field: The request field that determines the size.
        instead: Advice for the error message.

    Raises:
        InvalidRequestError: The response is too large.
    """
    if len(answer) > most:
        raise InvalidRequestError(field, f"what is answered with at most {most} bytes ({instead})", f"{len(answer)}")
