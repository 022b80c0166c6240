"""Seals the memory state that a client keeps between two calls, and verifies it when it comes back."""

from __future__ import annotations

import hashlib
import hmac

import numpy as np
from numpy.typing import NDArray

from pgkeras.errors import InvalidRequestError

__all__ = ["StateSeal"]

_TAG_BYTES = 16


class StateSeal:
    """Turns states into opaque bytes and back.

    Every row is a piece of its own, the numbers and a keyed hash of them (BLAKE2b, RFC 7693), so that a client may put
    batches together anew. A piece of zero bytes is the start of an episode.

    Args:
        key: What only those know who have the policy's files, so that any server with the same files takes the state.
        size: Length of a state, in float32 numbers.
    """

    def __init__(self, key: bytes, size: int) -> None:
        self._key = key
        self._size = size
        self._piece = _TAG_BYTES + 4 * size

    def seal(self, states: NDArray[np.float32]) -> bytes:
        """States ``[B, size]`` as bytes."""
        rows = [row.tobytes() for row in states.astype("<f4", copy=False)]
        return b"".join(self._tag(row) + row for row in rows)

    def open(self, data: bytes, rows: int) -> NDArray[np.float32]:
        """The states ``[rows, size]`` in some bytes; zeros for none.

        Raises:
            InvalidRequestError: They are not so many pieces, or one was not sealed for this version of the policy.
        """
        states = np.zeros((rows, self._size), np.float32)
        if not data:
            return states
        if len(data) != rows * self._piece:
            expected = f"{rows * self._piece} bytes for {rows} observations, or none at the start of an episode"
            raise InvalidRequestError("state", expected, f"{len(data)} bytes")
        for i in range(rows):
            piece = data[i * self._piece : (i + 1) * self._piece]
            if not piece.strip(b"\0"):
                continue
            tag, row = piece[:_TAG_BYTES], piece[_TAG_BYTES:]
            if not hmac.compare_digest(tag, self._tag(row)):
                raise InvalidRequestError(
                    "state",
                    "what this version of the policy answered before, or none at the start of an episode",
                    f"another one's, or one that was altered, for observation {i}",
                )
            states[i] = np.frombuffer(row, "<f4")
        return states

    def _tag(self, row: bytes) -> bytes:
        return hashlib.blake2b(row, digest_size=_TAG_BYTES, key=self._key).digest()
