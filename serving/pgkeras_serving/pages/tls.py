"""The pages' TLS: the files of the gRPC port; renewed ones are taken up without a restart."""

from __future__ import annotations

import functools
import ssl
from pathlib import Path

from pgkeras.certificates import check_authorities, check_pair, server_context
from pgkeras_serving.transport.renewed import RenewedFiles

__all__ = ["RenewedTls"]


class RenewedTls:
    """A context whose handshakes are made with the files as they were when they were last of use.

    Args:
        certificate: PEM file of the server's certificate chain.
        key: PEM file of its private key.
        client_ca: PEM file of authorities; only clients with a certificate of theirs are let in. None lets in all.

    Attributes:
        context: What listens.

    Raises:
        ConfigError: A file is of no use.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        read = functools.partial(_read, certificate, key, client_ca)
        self._files = RenewedFiles((certificate, key, client_ca), read)  # the gRPC port reports those of no use
        self.context = self._files.value
        # Authorities can only be added to a context, not taken away, so that each handshake changes over to the newest.
        self.context.sni_callback = self._change_over

    def renew(self) -> None:
        """Takes up files that have changed, if they are of use."""
        self._files.renew()

    def _change_over(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._files.value


def _read(certificate: Path, key: Path, client_ca: Path | None) -> ssl.SSLContext:
    check_pair(certificate, key)
    context = server_context(certificate, key)
    if client_ca is not None:
        check_authorities(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    return context
