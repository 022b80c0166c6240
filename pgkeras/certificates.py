"""Checks PEM files for TLS early, because a failed handshake does not report the cause."""

from __future__ import annotations

import ssl
from pathlib import Path

from pgkeras.errors import ConfigError

__all__ = ["check_authorities", "check_pair", "fault", "server_context"]


def check_pair(certificate: Path, key: Path) -> tuple[bytes, bytes]:
    """Reads a certificate chain and its private key.

    Returns:
        The contents of both files, PEM.

    Raises:
        ConfigError: A file cannot be read, is not in PEM format or is just being replaced, or the key does not match.
    """
    chain, secret = _read(certificate), _read(key)
    server_context(certificate, key)
    if (chain, secret) != (_read(certificate), _read(key)):  # the files have changed during the check
        raise ConfigError(f"{certificate} and {key} are being replaced")
    return chain, secret


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Returns a server's TLS context with a certificate chain and its private key.

    Raises:
        ConfigError: The files are not in PEM format, or the key does not match the certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"the key in {key} does not match the certificate in {certificate}") from error
        raise ConfigError(
            f"{certificate} and {key} are not a certificate chain and its private key in PEM: {error.reason or error}"
        ) from error
    return context


def check_authorities(file: Path) -> bytes:
    """Reads the certificates of authorities, in PEM.

    Raises:
        ConfigError: The file cannot be read, or contains no certificate.
    """
    content = _read(file)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except ssl.SSLError as error:
        raise ConfigError(f"{file} contains no certificate in PEM: {error.reason or error}") from error
    return content


def fault(certificate: Path, key: Path) -> str | None:
    """Returns a message if a certificate has expired or is not yet valid by this machine's clock, otherwise None.

    The standard library cannot parse certificates, so this makes a handshake with a client in the same process that
    trusts the certificate.
    """
    server = server_context(certificate, key)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # trusts the certificate itself, independent of its issuer
    client.load_verify_locations(certificate)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)
    for _ in range(3):  # hello; certificate; finished
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError as error:
                dated = "expired" in error.verify_message or "not yet valid" in error.verify_message
                return error.verify_message if dated else None
    return None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error


def _no_password() -> str:
    return ""  # otherwise OpenSSL would prompt for one on the terminal
