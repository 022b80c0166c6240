"""Listening: binds the address, with TLS where it is wanted, and nowhere that it would be unwise."""

from __future__ import annotations

import ipaddress
import socket

import grpc

from pgkeras.errors import ConfigError
from pgkeras_serving.config import ServerConfig
from pgkeras_serving.tls import Certificates

__all__ = ["address", "bind"]


def bind(server: grpc.aio.Server, config: ServerConfig) -> int:
    """Binds the configured address.

    Returns:
        The port, which is another than the configured one if that is 0.

    Raises:
        ConfigError: The address cannot be listened on, or would be open to others without TLS; or a certificate is of
            no use.
    """
    where = address(config.host, config.port)
    certificates = None
    if config.tls_cert is not None and config.tls_key is not None:
        certificates = Certificates(config.tls_cert, config.tls_key, config.tls_client_ca)
    try:
        loopback = _probe(config.host, config.port)
        if certificates is None and not loopback and not config.insecure:
            raise ConfigError(
                f"not listening on {where} without TLS, where others could read and send anything: give --tls-cert and "
                "--tls-key, or say --insecure if something else protects the network"
            )
        if certificates is None:
            return server.add_insecure_port(where)
        return server.add_secure_port(where, certificates.credentials())
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(
            f"cannot listen on {where}: {reason}; choose another --port (0 takes any free one) or --host"
        ) from error


def address(host: str, port: int) -> str:
    """HOST:PORT, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def _probe(host: str, port: int) -> bool:
    """Binds the address and lets it go, to have the operating system's reason if it can't be: gRPC keeps it back.

    Returns:
        Whether nobody but this machine can reach it.
    """
    found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, first = found[0]
    with socket.socket(family, kind, protocol) as probe:
        # As gRPC does, or closed connections would be in the way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(first)
    return all(ipaddress.ip_address(sockaddr[0]).is_loopback for *_, sockaddr in found)
