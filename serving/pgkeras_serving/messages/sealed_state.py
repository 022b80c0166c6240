"""Seals the memory state that a client keeps between calls, and verifies it when the client returns it."""

from __future__ import annotations

import hashlib
import hmac

import numpy as np
from numpy.typing import NDArray

from pgkeras.errors import InvalidRequestError

__all__ = ["StateSeal"]

_TAG_BYTES = 16


class StateSeal:
    """Encodes memory states as opaque bytes and verifies them when decoding.

    Each row is sealed separately: its numbers follow a keyed hash of them (BLAKE2b, RFC 7693). A client may therefore
    regroup the rows into other batches. A row of zero bytes stands for the start of an episode.

    Args:
        key: Secret key, derived from the policy's files. Any server with the same files accepts the state.
        size: Length of a state, in float32 numbers.
    """

    def __init__(self, key: bytes, size: int) -> None:
        self._key = key
        self._size = size
        self._piece = _TAG_BYTES + 4 * size

    def seal(self, states: NDArray[np.float32]) -> bytes:
        """Encodes states ``[B, size]``."""
        rows = [row.tobytes() for row in states.astype("<f4", copy=False)]
        return b"".join(self._tag(row) + row for row in rows)

    def open(self, data: bytes, rows: int) -> NDArray[np.float32]:
        """Decodes states ``[rows, size]``. Returns zeros if ``data`` is empty.

        Raises:
            InvalidRequestError: The length is wrong, or a row was not sealed for this version of the policy.
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
