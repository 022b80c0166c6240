"""Names and addresses of hosts."""

from __future__ import annotations

import ipaddress

__all__ = ["host_and_port", "is_loopback", "without_port"]


def host_and_port(host: str, port: int) -> str:
    """HOST:PORT, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine and nobody else can see what is sent to it.

    Args:
        host: A name or an address; one of IPv6 may be in brackets. Only the name ``localhost`` is this machine's.
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def without_port(address: str) -> str:
    """The host of HOST:PORT, or of HOST alone; an IPv6 address with a port is in brackets."""
    host, colon, port = address.rpartition(":")
    return host if colon and port.isdigit() and (":" not in host or host.endswith("]")) else address
