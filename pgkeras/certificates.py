"""Checks that a pair of PEM files can be used for TLS, before a handshake fails without a reason."""

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
        ConfigError: A file cannot be read, is no PEM or is just being replaced, or the key is another certificate's.
    """
    chain, secret = _read(certificate), _read(key)
    server_context(certificate, key)
    if (chain, secret) != (_read(certificate), _read(key)):  # what was checked may not be what was read
        raise ConfigError(f"{certificate} and {key} are being replaced")
    return chain, secret


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """A server's context with a certificate chain and its private key.

    Raises:
        ConfigError: They are no PEM, or the key is another certificate's.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"the key in {key} is not that of the certificate in {certificate}") from error
        raise ConfigError(
            f"{certificate} and {key} are no certificate chain and its private key in PEM: {error.reason or error}"
        ) from error
    return context


def check_authorities(file: Path) -> bytes:
    """Reads the certificates of authorities, PEM.

    Raises:
        ConfigError: The file cannot be read, or has no certificate in it.
    """
    content = _read(file)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except ssl.SSLError as error:
        raise ConfigError(f"{file} has no certificate in PEM: {error.reason or error}") from error
    return content


def fault(certificate: Path, key: Path) -> str | None:
    """Says why a peer with this machine's clock would refuse a certificate: it has expired or is not yet valid.

    The standard library parses no certificate by itself, so it is shown to a client in this process that trusts it.
    """
    server = server_context(certificate, key)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # trusts the certificate itself, whoever signed it
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
    return ""  # or OpenSSL would ask for one on the terminal
