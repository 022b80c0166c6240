"""The size of answers. gRPC itself would end a call, or a session, with INTERNAL if its answer is too large."""

from __future__ import annotations

from pgkeras.errors import InvalidRequestError

__all__ = ["check_size"]


def check_size(
    answer: bytes, most: int, field: str = "outputs", instead: str = "ask for fewer observations or outputs at once"
) -> None:
    """Checks that an answer may be sent.

    Args:
        answer: It.
        most: Its limit, in bytes.
        field: What makes it so large, in the request.
        instead: What to do if it is too large.

    Raises:
        InvalidRequestError: It is too large.
    """
    if len(answer) > most:
        raise InvalidRequestError(field, f"what is answered with at most {most} bytes ({instead})", f"{len(answer)}")
