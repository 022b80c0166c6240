"""Host names and addresses."""

from __future__ import annotations

import ipaddress

__all__ = ["host_and_port", "is_loopback", "without_port"]


def host_and_port(host: str, port: int) -> str:
    """Returns HOST:PORT, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine's loopback interface.

    Args:
        host: An address, where IPv6 may be in brackets, or a name. The only name that counts is ``localhost``.
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def without_port(address: str) -> str:
    """Returns the host of HOST:PORT or HOST. An IPv6 address with a port must be in brackets."""
    host, colon, port = address.rpartition(":")
    return host if colon and port.isdigit() and (":" not in host or host.endswith("]")) else address
