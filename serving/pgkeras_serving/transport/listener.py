"""Binds the address, with TLS if configured, and refuses unencrypted addresses outside the loopback interface."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc

from pgkeras.errors import ConfigError
from pgkeras.hosts import host_and_port, is_loopback
from pgkeras_serving.settings.config import ServerConfig
from pgkeras_serving.transport.tls import Certificates

__all__ = ["address", "bind", "check_protected", "probe", "reserve", "socket_file"]


def bind(server: grpc.aio.Server, config: ServerConfig) -> int:
    """Binds the configured address.

    Returns:
        The bound port; 0 for a Unix-domain socket.

    Raises:
        ConfigError: The address cannot be used, or would be reachable from other machines without TLS, or a certificate
            is invalid.
    """
    if config.listen is not None:
        with socket_file(config.listen, int(config.socket_mode, 8)):
            server.add_insecure_port(config.listen)
        return 0
    where = address(config, config.port)
    certificates = None
    if config.tls_cert is not None and config.tls_key is not None:
        certificates = Certificates(config.tls_cert, config.tls_key, config.tls_client_ca)
    try:
        loopback = probe(config.host, config.port, shared=config.workers_wanted > 1)
        check_protected(
            config, loopback, f"listening on {where} without TLS, where others could read and send anything"
        )
        if certificates is None:
            return server.add_insecure_port(where)
        return server.add_secure_port(where, certificates.credentials())
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise _cannot(where, reason) from error


def check_protected(config: ServerConfig, loopback: bool, open_to_all: str) -> None:
    """Refuses to listen for other machines without TLS.

    Args:
        config: The server's settings.
        loopback: Whether only this machine can reach the address.
        open_to_all: What is refused, for the error message.

    Raises:
        ConfigError: Other machines can reach the address, there is no TLS, and ``insecure`` is not set.
    """
    if not loopback and config.tls_cert is None and not config.insecure:
        raise ConfigError(
            f"not {open_to_all}: give --tls-cert and --tls-key, or say --insecure if something else protects the "
            "network"
        )


def _cannot(where: str, reason: str | None) -> ConfigError:
    return ConfigError(f"cannot listen on {where}: {reason}; choose another --port (0 takes any free one) or --host")


def address(config: ServerConfig, port: int) -> str:
    """Returns the address for clients: HOST:PORT, with an IPv6 address in brackets, or unix:PATH."""
    if config.listen is not None:
        return config.listen
    return host_and_port(config.host, port)


def probe(host: str, port: int, shared: bool = False) -> bool:
    """Binds an address and releases it, to get the operating system's error: gRPC does not report it.

    Args:
        host: The address.
        port: The port.
        shared: Whether other processes share the port.

    Returns:
        Whether only this machine can reach the address.

    Raises:
        OSError: The address cannot be bound.
    """
    found = _addresses(host, port)
    family, kind, protocol, _, first = found[0]
    with socket.socket(family, kind, protocol) as probe:
        # As gRPC does; otherwise recently closed connections would block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        probe.bind(first)
    return all(is_loopback(str(sockaddr[0])) for *_, sockaddr in found)


def _addresses(host: str, port: int) -> list[tuple[Any, ...]]:
    try:
        return socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label of a host name must have 1 to 63 characters
        raise OSError(errno.EINVAL, "this is not a valid host name") from error


def reserve(config: ServerConfig) -> socket.socket:
    """Reserves the configured port for several processes that share it.

    Returns:
        A bound socket that does not listen. The port is reserved while it is open.

    Raises:
        ConfigError: The port cannot be bound.
    """
    where = address(config, config.port)
    try:
        probe(config.host, config.port)  # without sharing, so that it fails if other programs share the port
        family, kind, protocol, _, first = _addresses(config.host, config.port)[0]
        taken = socket.socket(family, kind, protocol)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(first)
    except OSError as error:
        raise _cannot(where, error.strerror) from error
    return taken


@contextlib.contextmanager
def socket_file(where: str, mode: int) -> Iterator[Path]:
    """Context in which a Unix-domain socket can be bound. Its file gets the given permissions.

    Args:
        where: unix:PATH.
        mode: The permissions.

    Raises:
        ConfigError: The socket cannot be bound, or the path is already in use.
    """
    path = Path(where.removeprefix("unix:"))
    before = os.umask(0o777 & ~mode)  # chmod after binding would leave a moment in which anyone could connect
    try:
        _clear(path)
        yield path
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"cannot listen on {where}: {_reason(path, error)}") from error
    finally:
        os.umask(before)


def _clear(path: Path) -> None:
    """Removes the socket of a server that has ended. gRPC would also remove that of a running server."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(0, "the path exists and is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise FileExistsError(0, "another server listens there")


def _reason(path: Path, error: OSError | RuntimeError) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if not path.parent.is_dir():
        return f"there is no directory {path.parent}"
    if not os.access(path.parent, os.W_OK):
        return f"no permission to write in {path.parent}"
    return str(error)
