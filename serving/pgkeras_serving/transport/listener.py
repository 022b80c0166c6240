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
        The port, which is another than the configured one if that is 0; 0 for a Unix-domain socket.

    Raises:
        ConfigError: The address cannot be listened on, or would be open to others without TLS; or a certificate is of
            no use.
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
    """Refuses to be open to others without TLS.

    Args:
        config: The settings.
        loopback: Whether nobody but this machine can reach the address.
        open_to_all: What is refused, for the error.

    Raises:
        ConfigError: Others can reach it, there is no TLS, and nobody has said that the network is protected.
    """
    if not loopback and config.tls_cert is None and not config.insecure:
        raise ConfigError(
            f"not {open_to_all}: give --tls-cert and --tls-key, or say --insecure if something else protects the "
            "network"
        )


def _cannot(where: str, reason: str | None) -> ConfigError:
    return ConfigError(f"cannot listen on {where}: {reason}; choose another --port (0 takes any free one) or --host")


def address(config: ServerConfig, port: int) -> str:
    """The address for clients: HOST:PORT, with an IPv6 address in brackets, or unix:PATH."""
    if config.listen is not None:
        return config.listen
    return host_and_port(config.host, port)


def probe(host: str, port: int, shared: bool = False) -> bool:
    """Binds the address and lets it go, to have the operating system's reason if it can't be: gRPC keeps it back.

    Args:
        host: The address.
        port: The port.
        shared: Whether other processes listen there, too, that have agreed to it.

    Returns:
        Whether nobody but this machine can reach it.
    """
    found = _addresses(host, port)
    family, kind, protocol, _, first = found[0]
    with socket.socket(family, kind, protocol) as probe:
        # As gRPC does, or closed connections would be in the way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        probe.bind(first)
    return all(is_loopback(str(sockaddr[0])) for *_, sockaddr in found)


def _addresses(host: str, port: int) -> list[tuple[Any, ...]]:
    try:
        return socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # parts of names are 1 to 63 letters long
        raise OSError(errno.EINVAL, "there can be no host of this name") from error


def reserve(config: ServerConfig) -> socket.socket:
    """Takes the configured port for several processes that share it, and for no others.

    Returns:
        A socket that is bound and does not listen; the port is taken as long as it is open.

    Raises:
        ConfigError: It cannot be.
    """
    where = address(config, config.port)
    try:
        probe(config.host, config.port)  # which finds those that share it among themselves, too
        family, kind, protocol, _, first = _addresses(config.host, config.port)[0]
        taken = socket.socket(family, kind, protocol)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(first)
    except OSError as error:
        raise _cannot(where, error.strerror) from error
    return taken


@contextlib.contextmanager
def socket_file(where: str, mode: int) -> Iterator[Path]:
    """In the body, a socket can be bound there; it is made with the given permissions.

    Args:
        where: unix:PATH.
        mode: Its permissions.

    Raises:
        ConfigError: Binding it failed, or there is something else already.
    """
    path = Path(where.removeprefix("unix:"))
    before = os.umask(0o777 & ~mode)  # from the first moment on: between binding and chmod anybody could connect
    try:
        _clear(path)
        yield path
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"cannot listen on {where}: {_reason(path, error)}") from error
    finally:
        os.umask(before)


def _clear(path: Path) -> None:
    """Removes the socket of a server that is no more; gRPC would remove that of one that lives, too."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(0, "there is a file of that name, which is no socket")
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
