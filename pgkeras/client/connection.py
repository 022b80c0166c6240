"""Connects a client to a server: address, TLS, token; explains why a connection failed."""

from __future__ import annotations

import os
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from pgkeras import certificates
from pgkeras.errors import ConfigError, PolicyServiceError, ServerUnavailableError, TlsError
from pgkeras.hosts import is_loopback, without_port
from pgkeras.protocol.wire import MAX_MESSAGE_BYTES

__all__ = ["Endpoint", "Tls", "explain_refusal"]

# A connection that has died without a word, as by a power cut, is pinged after so long a silence, and given up when no
# answer comes. A server allows a ping every 10 s. A shorter patience than a call's own would end sessions that a
# network only delays.
_KEEPALIVE_MS = 20_000
_KEEPALIVE_TIMEOUT_MS = 10_000

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A server that comes back is found within a second; gRPC's own patience grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
    # The same for pings of gRPC's own, such as that after a call whose deadline has passed; a minute by default.
    ("grpc.http2.ping_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
    # Idle clients and sessions find out, too: without these, pings end or become rare where nothing else is sent.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)

# gRPC's words for what went wrong before a connection stood, and ours.
_REFUSALS = (
    ("certificate has expired", "its certificate has expired; its operator has to renew it"),
    ("certificate is not yet valid", "its certificate is not yet valid; is the clock of this machine right?"),
    (
        "Hostname Verification Check failed",
        "its certificate is for another name; say which with Tls(server_name=...) or --tls-server-name",
    ),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "its certificate is not signed by an authority that is trusted; name one with Tls(ca=...) or --tls-ca",
    ),
    (
        "WRONG_VERSION_NUMBER",
        "the server does not speak TLS; start it with --tls-cert and --tls-key, or connect to it without TLS",
    ),
)
# gRPC's order.
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
_LAST_PORT = 65_535
_CLOSED = "Socket closed"
_NO_HTTP_2 = "Failed parsing HTTP/2"
_SCHEMES = ("http://", "https://")
_CONNECTING = "failed to connect to all addresses"


@dataclass(frozen=True)
class Tls:
    """How a client secures its connection.

    Args:
        ca: PEM file of the authorities whose certificates it accepts; those that come with gRPC when None.
        cert: PEM file of its own certificate chain, for servers that demand one (mutual TLS).
        key: PEM file of that certificate's private key.
        server_name: The name to find in the server's certificate; the target's host when None.

    Raises:
        ConfigError: There is a certificate without a key, or a key without a certificate.
    """

    ca: Path | str | None = None
    cert: Path | str | None = None
    key: Path | str | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ConfigError("tls: a client's certificate and its private key belong together: give both or none")

    @property
    def pair(self) -> tuple[Path, Path] | None:
        """The certificate's file and the key's, if there are any."""
        return None if self.cert is None or self.key is None else (Path(self.cert), Path(self.key))


@dataclass(frozen=True)
class Endpoint:
    """Whom a client talks to, and how.

    Args:
        target: HOST:PORT, or unix:PATH.
        tls: How the connection is secured; None: it is not.
        token: What authenticates every call.

    Raises:
        ConfigError: There is no port, or none of that number; or the token would travel unencrypted to another machine,
            or has characters that none has.
    """

    target: str
    tls: Tls | None = None
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.target.startswith(_SCHEMES):
            host = self.target.partition("://")[2].rstrip("/")
            raise ConfigError(f"{self.target}: expected HOST:PORT without a scheme, such as {host}")
        if ":" not in self.target and self.tls is None:  # gRPC would take port 443
            raise ConfigError(f"{self.target}: expected HOST:PORT, such as {self.target}:50051; the port is missing")
        port = self.target.rpartition(":")[2]
        if not self.target.startswith("unix:") and port.isdecimal() and int(port) > _LAST_PORT:
            raise ConfigError(
                f"{self.target}: expected a port up to {_LAST_PORT}, got {port}"
            )  # of which gRPC takes the rest
        if self.token is None:
            return
        if not (self.token.isascii() and self.token.isprintable() and self.token.strip() == self.token != ""):
            raise ConfigError("token: expected printable ASCII without spaces around it, as pgkeras token makes it")
        if self.tls is None and not _is_this_machine(self.target):
            raise ConfigError(f"token: not sent to {self.target} unencrypted, where others could read it; use TLS")

    def __str__(self) -> str:
        return self.target

    @property
    def proxy(self) -> str:
        """What an error says of the proxy that leads there, as gRPC goes by the environment; nothing without one."""
        found = next((name for name in _PROXIES if os.environ.get(name)), None)
        if found is None or _is_this_machine(self.target) or urllib.request.proxy_bypass(without_port(self.target)):
            return ""
        return f" (through the proxy {os.environ[found]} that {found} names; no_proxy=HOST goes past it)"

    @classmethod
    def of(cls, target: str, tls: Tls | bool, token: str | None) -> Endpoint:
        """The endpoint that the arguments of PolicyClient mean."""
        return cls(target, (Tls() if tls else None) if isinstance(tls, bool) else tls, token)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of every call."""
        return () if self.token is None else (("authorization", f"Bearer {self.token}"),)

    def connect(self) -> grpc.Channel:
        """Opens a channel; it connects when it is used.

        Raises:
            ConfigError: A certificate, a key or the authorities' file cannot be used.
        """
        credentials, options = self._how()
        if credentials is None:
            return grpc.insecure_channel(self.target, options)
        return grpc.secure_channel(self.target, credentials, options)

    def connect_aio(self) -> grpc.aio.Channel:
        """Opens a channel for asyncio, with a connection of its own.

        Raises:
            ConfigError: A certificate, a key or the authorities' file cannot be used.
        """
        credentials, options = self._how()
        options += (("grpc.use_local_subchannel_pool", 1),)
        if credentials is None:
            return grpc.aio.insecure_channel(self.target, options)
        return grpc.aio.secure_channel(self.target, credentials, options)

    def _how(self) -> tuple[grpc.ChannelCredentials | None, tuple[tuple[str, Any], ...]]:
        # No proxy stands between a machine and itself, whatever http_proxy says.
        direct: tuple[tuple[str, Any], ...] = (("grpc.enable_http_proxy", 0),) if _is_this_machine(self.target) else ()
        if self.tls is None:
            return None, _OPTIONS + direct
        authorities = None if self.tls.ca is None else certificates.check_authorities(Path(self.tls.ca))
        chain, key = (None, None) if self.tls.pair is None else certificates.check_pair(*self.tls.pair)
        options: tuple[tuple[str, Any], ...] = _OPTIONS + direct
        if self.tls.server_name is not None:
            options += (("grpc.ssl_target_name_override", self.tls.server_name),)
        return grpc.ssl_channel_credentials(authorities, key, chain), options


def explain_refusal(endpoint: Endpoint, details: str) -> PolicyServiceError | None:
    """The error that a failed handshake means; None if it was none.

    Args:
        endpoint: To whom the connection failed.
        details: What gRPC says about it.
    """
    for words, reason in _REFUSALS:
        if words in details:
            return TlsError(f"no secure connection to {endpoint}: {reason}")
    if _NO_HTTP_2 in details:
        return ServerUnavailableError(
            f"{endpoint} does not speak gRPC; is it the port of the status page? Give the one that pgkeras serve "
            "prints when it is ready"
        )
    if not (_CONNECTING in details and _CLOSED in details):
        return None
    if endpoint.tls is None:
        return TlsError(
            f"{endpoint} closes the connection at once: it probably speaks TLS; connect with --tls or --tls-ca FILE, "
            "in Python with tls=True or Tls(ca=FILE)"
        )
    # A gRPC server that refuses a client's certificate does not say why: it hangs up.
    if endpoint.tls.pair is None:
        reason = (
            "it probably demands a client's certificate; give one with Tls(cert=..., key=...) or --tls-cert, --tls-key"
        )
    elif wrong := certificates.fault(*endpoint.tls.pair):
        reason = f"this client's certificate in {endpoint.tls.cert} is refused: {wrong}"
    else:
        reason = (
            f"this client's certificate in {endpoint.tls.cert} is refused; it is probably not signed by an authority "
            "that the server trusts (the server's log has the reason)"
        )
    return TlsError(f"{endpoint} ends the connection during the TLS handshake: {reason}")


def _is_this_machine(target: str) -> bool:
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    return is_loopback(without_port(target))
