"""HTTP server of ``--http-port``: status page, metrics and probes."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import time
from collections.abc import Callable
from http import HTTPStatus

from pgkeras import __version__
from pgkeras.errors import ConfigError, UnauthenticatedError
from pgkeras.hosts import host_and_port, is_loopback, without_port
from pgkeras_serving.pages.http import HttpRequest, HttpResponse, connection_handler
from pgkeras_serving.pages.overview import Status, VersionStatus
from pgkeras_serving.pages.page import render
from pgkeras_serving.pages.prometheus import Exposition
from pgkeras_serving.pages.tls import RenewedTls
from pgkeras_serving.settings.config import ServerConfig
from pgkeras_serving.telemetry.last_minute import Live
from pgkeras_serving.telemetry.snapshot import Snapshot
from pgkeras_serving.transport.listener import check_protected, probe
from pgkeras_serving.transport.tokens import Tokens

__all__ = ["Web"]

logger = logging.getLogger(__name__)

_OPEN = ("/healthz", "/readyz")
_SECOND = 1.0
_HANDSHAKE_SECONDS = 10.0


class Web:
    """The HTTP server that runs next to the gRPC server.

    Args:
        config: The server's settings.
        tokens: Tokens that give access to the pages; None for public pages.
        snapshot: Returns the current state.
    """

    def __init__(
        self,
        config: ServerConfig,
        tokens: Tokens | None,
        snapshot: Callable[[], Snapshot],
    ) -> None:
        self.state = "loading"
        """The state that /readyz and the page report: "loading", "serving" or "draining"."""
        self.target = ""
        """The address of the gRPC server."""
        self.port = 0
        """The port of this server."""
        self._config = config
        self._tokens = tokens
        self._snapshot = snapshot
        self._exposition = Exposition(snapshot)
        self._pages = {"/": self._page, "/metrics": self._metrics, "/healthz": self._healthy, "/readyz": self._ready}
        self._lives: dict[tuple[str, int], Live] = {}
        self._started = time.monotonic()
        self._server: asyncio.Server | None = None
        self._watching: asyncio.Task[None] | None = None
        self._only_here = True
        self._tls: RenewedTls | None = None

    async def start(self) -> None:
        """Starts listening.

        Raises:
            ConfigError: The address cannot be used, or would be reachable from other machines without TLS, or a
                certificate is invalid.
        """
        config = self._config
        assert config.http_port is not None
        if config.tls_cert is not None and config.tls_key is not None:
            self._tls = RenewedTls(config.tls_cert, config.tls_key, config.tls_client_ca)
        where = host_and_port(config.http_host, config.http_port)
        try:
            self._only_here = probe(config.http_host, config.http_port)
            check_protected(config, self._only_here, f"showing the status on {where} without TLS")
            self._server = await asyncio.start_server(
                connection_handler(self._answer),
                config.http_host.strip("[]"),
                config.http_port,
                ssl=None if self._tls is None else self._tls.context,
                ssl_handshake_timeout=None if self._tls is None else _HANDSHAKE_SECONDS,
            )
        except OSError as error:
            raise ConfigError(f"cannot listen on {where}: {error.strerror}; choose another --http-port") from error
        self.port = self._server.sockets[0].getsockname()[1]
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Stops listening."""
        if self._watching is not None:
            self._watching.cancel()
        if self._server is not None:
            self._server.close()

    async def _watch(self) -> None:
        while True:
            try:
                if self._tls is not None:
                    self._tls.renew()
                self._sample()
            except Exception:  # the pages stay available, and the next attempt may succeed
                logger.exception("updating the pages' rates and latencies failed")
            await asyncio.sleep(_SECOND)

    def _sample(self) -> None:
        lives = {}
        for policy in self._snapshot().versions:
            key = policy.name, policy.version
            live = self._lives.get(key)
            if live is None:
                live = Live(policy.meter)
            else:
                live.meter = policy.meter
                live.sample()
            lives[key] = live
        self._lives = lives

    async def _answer(self, request: HttpRequest) -> HttpResponse:
        if self._only_here and not is_loopback(without_port(request.headers.get("host", "localhost"))):
            # Prevents DNS rebinding: a website whose name resolves to this machine could otherwise read the page.
            return HttpResponse(HTTPStatus.MISDIRECTED_REQUEST, b"Ask for localhost or 127.0.0.1.\n")
        if request.path not in _OPEN and (refusal := self._refusal(request)):
            return refusal
        page = self._pages.get(request.path)
        if page is None:
            return HttpResponse(HTTPStatus.NOT_FOUND, b"Not found. The pages are /, /metrics, /healthz and /readyz.\n")
        return await page()

    async def _page(self) -> HttpResponse:
        return HttpResponse(HTTPStatus.OK, await asyncio.to_thread(render, self._status()), "text/html; charset=utf-8")

    async def _metrics(self) -> HttpResponse:
        return HttpResponse(HTTPStatus.OK, await self._exposition.text(), self._exposition.kind)

    async def _healthy(self) -> HttpResponse:
        return HttpResponse(HTTPStatus.OK, b"ok\n")  # if the event loop were blocked, there would be no response

    async def _ready(self) -> HttpResponse:
        ready = self.state == "serving"
        return HttpResponse(HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE, f"{self.state}\n".encode())

    def _refusal(self, request: HttpRequest) -> HttpResponse | None:
        if self._tokens is None:
            return None
        try:
            self._tokens.authenticate([("authorization", _as_bearer(request.headers.get("authorization", "")))])
        except UnauthenticatedError:
            # Browsers then ask for a user name and a password. The token is the password.
            ask = {"WWW-Authenticate": 'Basic realm="pgkeras: the password is a token", charset="UTF-8"'}
            return HttpResponse(HTTPStatus.UNAUTHORIZED, b"This server requires a token.\n", headers=ask)
        return None

    def _status(self) -> Status:
        now = self._snapshot()
        versions = []
        for policy in now.versions:
            name, version = policy.name, policy.version
            live = self._lives.get((name, version)) or Live(policy.meter)
            versions.append(
                VersionStatus(
                    policy,
                    [label for label, labelled in now.labels.get(name, {}).items() if labelled == version],
                    live.recent(),
                    policy.episodes.summary(),
                    policy.episodes.last_returns(),
                )
            )
        return Status(
            state=self.state,
            target=self.target,
            uptime=time.monotonic() - self._started,
            release=__version__,
            sessions=now.sessions,
            requests=now.requests,
            failures=now.failures,
            versions=versions,
            processes=len(now.processes),
            restarts=now.restarts,
            run=now.run,
        )


def _as_bearer(authorization: str) -> str:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return authorization
    try:
        return "Bearer " + base64.b64decode(value, validate=True).decode("ascii").partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""
