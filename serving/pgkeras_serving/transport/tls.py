"""TLS: the server's certificate and the clients' authority; renewed files are loaded without a restart."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import grpc

from pgkeras.certificates import check_authorities, check_pair, fault
from pgkeras.errors import ConfigError
from pgkeras.files import stamps

__all__ = ["Certificates"]

logger = logging.getLogger(__name__)


class Certificates:
    """The files of a server's identity, looked at anew before every handshake.

    Args:
        certificate: PEM file of the server's certificate chain.
        key: PEM file of its private key.
        client_ca: PEM file of authorities; only clients with a certificate of theirs are let in. None lets in all.

    Raises:
        ConfigError: A file is of no use.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._files = certificate, key, client_ca
        self._stamp = stamps(self._files)
        self._configuration = self._read()

    def credentials(self) -> grpc.ServerCredentials:
        """The credentials for binding a port."""
        demand = self._files[2] is not None
        return grpc.dynamic_ssl_server_credentials(self._configuration, self._renewed, demand)

    def _renewed(self) -> Any:
        """Called by gRPC before every handshake, in its own thread. Returns a new configuration, or None."""
        found = stamps(self._files)
        if found == self._stamp:
            return None
        self._stamp = found
        try:
            self._configuration = self._read()
        except ConfigError as error:  # it may be that only one of the files has been replaced yet
            logger.error("the certificate stays as it was: %s", error)
            return None
        logger.info("%s has been renewed", self._files[0])
        return self._configuration

    def _read(self) -> Any:
        certificate, key, client_ca = self._files
        chain, secret = check_pair(certificate, key)
        if wrong := fault(certificate, key):
            logger.warning("clients will refuse this server: in %s, %s", certificate, wrong)
        authorities = None if client_ca is None else check_authorities(client_ca)
        return grpc.ssl_server_certificate_configuration([(secret, chain)], authorities)
