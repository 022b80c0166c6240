"""Access tokens. The token file has a name and a hash per line and may be changed while the server runs.

A token consists of 256 random bits. Its SHA-256 therefore needs neither a salt nor a slow hash function: a dictionary
attack is impossible.
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
_CHECK_SECONDS = 1.0


def create_token() -> str:
    """Creates a token: 43 random characters after a prefix that scanners for leaked secrets can detect."""
    return _PREFIX + secrets.token_urlsafe(32)


def hashed_line(name: str, token: str) -> str:
    """Returns the line of the token file that admits a token.

    Raises:
        ConfigError: The name is invalid.
    """
    line = f"{name} sha256:{hashlib.sha256(token.encode()).hexdigest()}"
    if _LINE.fullmatch(line) is None:
        raise ConfigError(
            f"{name!r} is not a valid name for a token: expected up to 64 letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit"
        )
    return line


def read_tokens(file: Path) -> dict[bytes, str]:
    """Reads a token file: names by SHA-256. Skips empty lines and lines that begin with #.

    Raises:
        ConfigError: The file cannot be read, or a line is invalid.
    """
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{file}: expected at most {_MAX_BYTES} bytes of tokens")
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        raise ConfigError(f"cannot read the tokens in {file}: {reason}") from error
    names: dict[bytes, str] = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:  # the message does not show the line, which may contain a token
            raise ConfigError(f"{file}, line {number}: expected NAME sha256:HASH, as pgkeras token prints it")
        names[bytes.fromhex(match[2])] = match[1]
    return names


class Tokens:
    """The valid tokens. Changes of the file take effect within a second.

    Args:
        file: The token file; see :func:`read_tokens`.

    Raises:
        ConfigError: The file is invalid.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        # Tokens are looked up by a keyed hash, so that the duration of a lookup reveals nothing about them.
        self._key = secrets.token_bytes(32)
        self._names = RenewedFiles((file,), lambda: self._keyed(read_tokens(file)), "tokens stay as they were")
        self._checked = time.monotonic()

    def authenticate(self, metadata: Iterable[tuple[str, str | bytes]]) -> str:
        """Returns the name of a call's token.

        Args:
            metadata: The call's metadata, with lowercase keys.

        Raises:
            UnauthenticatedError: The call has no token, or an unknown one.
        """
        if time.monotonic() - self._checked >= _CHECK_SECONDS:
            self._renew()
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

    def _renew(self) -> None:
        self._checked = time.monotonic()
        if self._names.renew():
            logger.info("%s has changed: %d tokens are valid", self._file, len(self._names.value))

    def _keyed(self, names: dict[bytes, str]) -> dict[bytes, str]:
        return {hmac.digest(self._key, digest, "sha256"): name for digest, name in names.items()}
