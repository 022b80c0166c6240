"""Connection of a client to a server: address, TLS and token. Explains why a connection failed."""

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

# An idle connection is pinged after this time and closed without a response. This detects connections that died
# silently, for example by a power failure. The server allows a ping every 10 s. Shorter timeouts would end sessions
# that the network only delays.
_KEEPALIVE_MS = 20_000
_KEEPALIVE_TIMEOUT_MS = 10_000

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Finds a restarted server within a second; gRPC's default backoff grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
    # The same timeout for gRPC's own pings, for example after a missed deadline; the default is a minute.
    ("grpc.http2.ping_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
    # Also pings without calls in progress and without other data; by default, gRPC stops or limits such pings.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)

# Parts of gRPC's messages about failed connections, and the explanations for our errors.
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
# In gRPC's order of precedence.
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
_LAST_PORT = 65_535
_CLOSED = "Socket closed"
_NO_HTTP_2 = "Failed parsing HTTP/2"
_SCHEMES = ("http://", "https://")
_CONNECTING = "failed to connect to all addresses"


@dataclass(frozen=True)
class Tls:
    """TLS options of a client.

    Args:
        ca: PEM file of the trusted certificate authorities; None for gRPC's default ones.
        cert: PEM file of the client's certificate chain, for servers that require one (mutual TLS).
        key: PEM file of the client certificate's private key.
        server_name: Expected name in the server's certificate; None for the target's host.

    Raises:
        ConfigError: Only one of ``cert`` and ``key`` is given.
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
        """The files of the client's certificate and key, or None."""
        return None if self.cert is None or self.key is None else (Path(self.cert), Path(self.key))


@dataclass(frozen=True)
class Endpoint:
    """Address of a server, with the TLS options and the token.

    Args:
        target: HOST:PORT, or unix:PATH.
        tls: TLS options; None for an unencrypted connection.
        token: Token that authenticates every call.

    Raises:
        ConfigError: The port is missing or invalid, the token contains invalid characters, or it would be sent
            unencrypted to another machine.
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
            )  # gRPC would use it modulo 65,536
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
        """Text about the proxy for error messages; gRPC takes it from the environment. Empty without a proxy."""
        found = next((name for name in _PROXIES if os.environ.get(name)), None)
        if found is None or _is_this_machine(self.target) or urllib.request.proxy_bypass(without_port(self.target)):
            return ""
        return f" (through the proxy {os.environ[found]} that {found} names; no_proxy=HOST goes past it)"

    @classmethod
    def of(cls, target: str, tls: Tls | bool, token: str | None) -> Endpoint:
        """Creates an endpoint from the arguments of PolicyClient."""
        return cls(target, (Tls() if tls else None) if isinstance(tls, bool) else tls, token)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of every call."""
        return () if self.token is None else (("authorization", f"Bearer {self.token}"),)

    def connect(self) -> grpc.Channel:
        """Opens a channel, which connects on first use.

        Raises:
            ConfigError: A certificate, a key or the authorities' file cannot be used.
        """
        credentials, options = self._how()
        if credentials is None:
            return grpc.insecure_channel(self.target, options)
        return grpc.secure_channel(self.target, credentials, options)

    def connect_aio(self) -> grpc.aio.Channel:
        """Opens a channel for asyncio that does not share its connection.

        Raises:
            ConfigError: A certificate, a key or the authorities' file cannot be used.
        """
        credentials, options = self._how()
        options += (("grpc.use_local_subchannel_pool", 1),)
        if credentials is None:
            return grpc.aio.insecure_channel(self.target, options)
        return grpc.aio.secure_channel(self.target, credentials, options)

    def _how(self) -> tuple[grpc.ChannelCredentials | None, tuple[tuple[str, Any], ...]]:
        # Ignores http_proxy for connections within this machine.
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
    """Explains a failed handshake. Returns None for other failures.

    Args:
        endpoint: The server.
        details: gRPC's message.
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
    # A gRPC server that refuses a client certificate closes the connection without a reason.
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
