"""Tokens: who may call. The file has a name and a hash on each line, and can be changed while the server runs.

A token is 256 random bits, so that its SHA-256 gives nothing away and needs no salt and no slow hash: there is no
dictionary to try.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Iterable
from pathlib import Path

from pgkeras.errors import ConfigError, UnauthenticatedError
from pgkeras_serving.transport.renewed import RenewedFiles

__all__ = ["Tokens", "create_token", "hashed_line", "read_tokens"]

logger = logging.getLogger(__name__)

_HEADER = "authorization"
_SCHEME = "bearer "
_PREFIX = "pgk_"
_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})\s+sha256:([0-9a-f]{64})")
_MAX_BYTES = 2**20
_LOOK_SECONDS = 1.0


def create_token() -> str:
    """A new token: 43 characters after a prefix by which scanners for leaked secrets can find it."""
    return _PREFIX + secrets.token_urlsafe(32)


def hashed_line(name: str, token: str) -> str:
    """The line of the tokens' file that lets a token in.

    Raises:
        ConfigError: The name is none.
    """
    line = f"{name} sha256:{hashlib.sha256(token.encode()).hexdigest()}"
    if _LINE.fullmatch(line) is None:
        raise ConfigError(
            f"{name!r} is no name for a token: expected up to 64 letters, digits, '.', '_' and '-', beginning with a "
            "letter or digit"
        )
    return line


def read_tokens(file: Path) -> dict[bytes, str]:
    """Names by SHA-256. Empty lines, and lines that begin with #, are skipped.

    Raises:
        ConfigError: The file cannot be read, or a line is not of the form.
    """
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{file}: expected at most {_MAX_BYTES} bytes of tokens")
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"cannot read the tokens in {file}: {reason}") from error
    names: dict[bytes, str] = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:  # the line is not shown: somebody may have put a token there
            raise ConfigError(f"{file}, line {number}: expected NAME sha256:HASH, as pgkeras token prints it")
        names[bytes.fromhex(match[2])] = match[1]
    return names


class Tokens:
    """The tokens that are let in now: the file is read again when it changes, a second later at most.

    Args:
        file: As :func:`read_tokens` takes it.

    Raises:
        ConfigError: The file is of no use.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        # Tokens are looked up by a keyed hash of theirs, so that the time which that takes tells nothing about any.
        self._key = secrets.token_bytes(32)
        self._names = RenewedFiles((file,), lambda: self._keyed(read_tokens(file)), "tokens stay as they were")
        self._looked = time.monotonic()

    def authenticate(self, metadata: Iterable[tuple[str, str | bytes]]) -> str:
        """The name of a call's token.

        Args:
            metadata: The call's, with keys in lower case.

        Raises:
            UnauthenticatedError: There is no token, or no such token.
        """
        if time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._look()
        value = next((value for key, value in metadata if key == _HEADER), None)
        if not isinstance(value, str) or not value.lower().startswith(_SCHEME):
            raise UnauthenticatedError(
                "this server demands a token: send the metadata 'authorization: Bearer TOKEN', as "
                "PolicyClient(token=...) and the environment variable PGKERAS_TOKEN do"
            )
        digest = hashlib.sha256(value[len(_SCHEME) :].strip().encode()).digest()
        name = self._names.value.get(hmac.digest(self._key, digest, "sha256"))
        if name is None:
            raise UnauthenticatedError(
                "the token is not one that this server knows: it is mistyped or has been withdrawn; have one made with "
                "pgkeras token"
            )
        return name

    def _look(self) -> None:
        self._looked = time.monotonic()
        if self._names.renew():
            logger.info("%s has changed: %d tokens are let in", self._file, len(self._names.value))

    def _keyed(self, names: dict[bytes, str]) -> dict[bytes, str]:
        return {hmac.digest(self._key, digest, "sha256"): name for digest, name in names.items()}
