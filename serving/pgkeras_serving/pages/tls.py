"""TLS of the pages. Uses the gRPC port's files and reloads renewed ones without a restart."""

from __future__ import annotations

import functools
import ssl
from pathlib import Path

from pgkeras.certificates import check_authorities, check_pair, server_context
from pgkeras_serving.transport.renewed import RenewedFiles

__all__ = ["RenewedTls"]


class RenewedTls:
    """A TLS context whose handshakes use the last valid version of the files.

    Args:
        certificate: PEM file of the server's certificate chain.
        key: PEM file of its private key.
        client_ca: PEM file of the authorities that sign client certificates; None admits clients without one.

    Attributes:
        context: The context for the listening socket.

    Raises:
        ConfigError: A file is invalid.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        read = functools.partial(_read, certificate, key, client_ca)
        self._files = RenewedFiles((certificate, key, client_ca), read)  # the gRPC port reports invalid files
        self.context = self._files.value
        # Authorities can be added to a context but not removed, so each handshake switches to the newest context.
        self.context.sni_callback = self._switch

    def renew(self) -> None:
        """Reloads files that have changed, if they are valid."""
        self._files.renew()

    def _switch(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._files.value


def _read(certificate: Path, key: Path, client_ca: Path | None) -> ssl.SSLContext:
    check_pair(certificate, key)
    context = server_context(certificate, key)
    if client_ca is not None:
        check_authorities(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    return context
