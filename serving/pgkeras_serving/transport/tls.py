"""TLS: the server's certificate and the authority of client certificates. Reloads renewed files without a restart."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any

import grpc

from pgkeras.certificates import check_authorities, check_pair, fault
from pgkeras_serving.transport.renewed import RenewedFiles

__all__ = ["Certificates"]

logger = logging.getLogger(__name__)


class Certificates:
    """The certificate files of a server, checked for changes before every handshake.

    Args:
        certificate: PEM file of the server's certificate chain.
        key: PEM file of its private key.
        client_ca: PEM file of the authorities that sign client certificates; None admits clients without one.

    Raises:
        ConfigError: A file is invalid.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._certificate, self._demand = certificate, client_ca is not None
        read = functools.partial(_read, certificate, key, client_ca)
        self._files = RenewedFiles((certificate, key, client_ca), read, "the certificate stays as it was")

    def credentials(self) -> grpc.ServerCredentials:
        """Returns the credentials for binding a port."""
        return grpc.dynamic_ssl_server_credentials(self._files.value, self._renewed, self._demand)

    def _renewed(self) -> Any:
        """Returns a new configuration if the files have changed. gRPC calls it before every handshake, in a thread."""
        if not self._files.renew():
            return None
        logger.info("%s has been renewed", self._certificate)
        return self._files.value


def _read(certificate: Path, key: Path, client_ca: Path | None) -> Any:
    chain, secret = check_pair(certificate, key)
    if wrong := fault(certificate, key):
        logger.warning("clients will refuse this server: in %s, %s", certificate, wrong)
    authorities = None if client_ca is None else check_authorities(client_ca)
    return grpc.ssl_server_certificate_configuration([(secret, chain)], authorities)
