"""The server: binds, loads, answers, drains."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import logging
import signal
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from pgkeras.errors import ConfigError, MissingExtraError
from pgkeras.files import whole_file
from pgkeras.v1 import service_pb2
from pgkeras_serving.policies.store import Store
from pgkeras_serving.sessions.sessions import Sessions
from pgkeras_serving.settings.config import ServerConfig
from pgkeras_serving.telemetry.logs import AccessLog
from pgkeras_serving.telemetry.metrics import Requests
from pgkeras_serving.transport.access import TokenInterceptor
from pgkeras_serving.transport.limits import transport_options
from pgkeras_serving.transport.listener import address, bind, host_and_port
from pgkeras_serving.transport.methods import generic_handler
from pgkeras_serving.transport.poller_priority import defer
from pgkeras_serving.transport.servicer import PolicyServicer
from pgkeras_serving.transport.tokens import Tokens

try:
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_health.v1.health import aio as health
    from grpc_reflection.v1alpha import reflection
except ImportError as error:
    raise MissingExtraError(str(error.name), "serve", "serve policies") from error

__all__ = ["PolicyServer", "run", "serving"]

logger = logging.getLogger(__name__)

_DESCRIPTOR = service_pb2.DESCRIPTOR.services_by_name["PolicyService"]
_SERVICE = _DESCRIPTOR.full_name
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
# How long Watch calls have to send NOT_SERVING before they are ended.
_LAST_WORD_SECONDS = 0.05
# How often is looked whether the front is up.
_LOOK_SECONDS = 0.1


class PolicyServer:
    """A running server; :func:`serving` starts and stops one.

    Args:
        config: Its settings.

    Raises:
        ConfigError: The address cannot be listened on, or a certificate or the tokens' file is of no use.
    """

    def __init__(self, config: ServerConfig) -> None:
        self.store = Store(config)
        self.requests = Requests()
        self._config = config
        self._health = _Health()
        self._healthy: set[str] = set()
        self._following: asyncio.Task[None] | None = None
        self._staying: asyncio.Task[None] | None = None
        self._crashed: set[asyncio.Task[None]] = set()
        self._tokens = None if config.token_file is None else Tokens(config.token_file)
        self._sessions = Sessions(config.max_sessions, config.session_idle_seconds)
        self._access = AccessLog(config.log_observations) if config.log_access else None
        self._servicer = PolicyServicer(self.store, self._sessions, self.requests, self._access)
        self._deferring: list[asyncio.Task[None]] = []
        before = set(threading.enumerate())
        self._server = self._front()
        self._polling = set(threading.enumerate()) - before  # one thread; none if the process has used gRPC before
        self.port = bind(self._server, config)
        self.web = None
        if config.http_port is not None:
            from pgkeras_serving.pages.web import Web

            self.web = Web(config, self._tokens, self.store, self._sessions, self.requests)

    @property
    def target(self) -> str:
        """The address that it listens on, HOST:PORT or unix:PATH."""
        return address(self._config, self.port)

    async def start(self) -> None:
        """Answers health checks at once, and everything else when the policies are loaded and warmed.

        Raises:
            BundleError: There is no policy that can be served.
        """
        await self._report(_NOT_SERVING)
        if self.web is not None:
            self.web.target = self.target
            await self.web.start()
        await self._server.start()
        self._staying = asyncio.create_task(self._stay())
        self._deferring = [asyncio.create_task(defer(thread)) for thread in self._polling]
        await asyncio.to_thread(self.store.load)
        served = {policy.version.name for policy in self.store.policies()}
        for name in sorted(set(self._config.policies) - served):
            logger.warning("policies.%s: no such policy is served; there is: %s", name, ", ".join(sorted(served)))
        self._following = asyncio.create_task(self._follow())
        await self._report(health_pb2.HealthCheckResponse.SERVING)
        await self._report_policies()
        if self.web is not None:
            self.web.state = "serving"

    async def drain(self) -> None:
        """Reports NOT_SERVING, takes no new calls, lets those in flight finish within ``drain_seconds``, and stops.

        A session ends when it has answered the message that it is at, and its client is told to connect again.
        """
        for task in (self._following, self._staying, *self._deferring):
            if task is not None:
                task.cancel()
        if self.web is not None:
            self.web.state = "draining"
        stopping = asyncio.create_task(self._server.stop(self._config.drain_seconds))
        await asyncio.sleep(0)  # whoever is told NOT_SERVING finds that no new connection is taken
        await self._health.end()
        self._sessions.end()
        await stopping
        if self.web is not None:
            await self.web.stop()
        self.store.close()

    def _front(self) -> grpc.aio.Server:
        server = grpc.aio.server(
            interceptors=[] if self._tokens is None else [TokenInterceptor(self._tokens, self.requests, self._access)],
            options=[
                ("grpc.so_reuseport", 0),  # or a second server would bind the same port without a word
                *transport_options(self._config),
            ],
        )
        server.add_generic_rpc_handlers((generic_handler(_DESCRIPTOR, self._servicer),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (_SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        return server

    async def _stay(self) -> None:
        """Opens the front again when it has crashed, as that of grpcio 1.85 does at a call whose path is not UTF-8.

        The crashed one ends by itself, when the connections do that are still its own.
        """
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            # Waiting for its termination would wait for those connections, and whoever cancels that cancels its end.
            if self._server._server.is_running():  # type: ignore[attr-defined]
                continue
            logger.error("gRPC's server has crashed and is started again; its connections end")
            ending = asyncio.create_task(self._server.stop(0))
            self._crashed.add(ending)
            ending.add_done_callback(self._crashed.discard)
            self._server = self._front()
            while not self._bind_again():
                await asyncio.sleep(_LOOK_SECONDS)
            await self._server.start()

    def _bind_again(self) -> bool:
        try:
            bind(self._server, dataclasses.replace(self._config, port=self.port))
        except ConfigError as error:
            logger.error("%s", error)
            return False
        return True

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._config.poll_seconds)
            try:
                await asyncio.to_thread(self.store.refresh)
                await self._report_policies()
            except Exception:  # of any kind: the next look may fare better, and what is served stays
                logger.exception("looking for new versions failed")

    async def _report_policies(self) -> None:
        """Tells of every policy whether a version of it is ready; of one that is gone, that none is."""
        names = {policy.version.name for policy in self.store.policies()}
        for name in names ^ self._healthy:
            status = health_pb2.HealthCheckResponse.SERVING if name in names else _NOT_SERVING
            await self._health.set(f"policies/{name}", status)
        self._healthy = names

    async def _report(self, status: Any) -> None:
        for service in ("", _SERVICE):
            await self._health.set(service, status)


class _Health(health.HealthServicer):
    """The standard servicer, except that its endless Watch calls can be ended: draining would wait for them."""

    def __init__(self) -> None:
        super().__init__()
        self._watches: set[asyncio.Future[None]] = set()
        self._ended = False

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802
        """Streams every change of a service's status."""
        watch = asyncio.ensure_future(super().Watch(request, context))
        self._watches.add(watch)
        try:
            await watch
        except asyncio.CancelledError:
            if not self._ended:  # it is the caller who left
                raise
        finally:
            self._watches.discard(watch)

    async def end(self) -> None:
        """Tells NOT_SERVING to everybody who watches, and ends their calls."""
        await self.enter_graceful_shutdown()
        self._ended = True
        if self._watches:
            await asyncio.wait(self._watches, timeout=_LAST_WORD_SECONDS)
        for watch in self._watches:
            watch.cancel()


@contextlib.asynccontextmanager
async def serving(config: ServerConfig) -> AsyncIterator[PolicyServer]:
    """Starts a server, and drains it when the body is done.

    Raises:
        ConfigError: The address cannot be listened on, or a certificate or the tokens' file is of no use.
        BundleError: There is no policy that can be served.
    """
    server = PolicyServer(config)
    try:
        await server.start()
        yield server
    finally:
        await server.drain()


def run(config: ServerConfig) -> None:
    """Serves until SIGTERM or SIGINT, then drains.

    Raises:
        ConfigError: The address cannot be listened on, or a certificate or the tokens' file is of no use.
        BundleError: There is no policy that can be served.
    """
    with asyncio.Runner(loop_factory=_event_loop) as runner:
        runner.run(_run(config))


def _event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _run(config: ServerConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    np.seterr(
        over="ignore", invalid="ignore"
    )  # requests are checked for what overflows; a warning in the log would tell nobody
    async with serving(config) as server:
        gc.freeze()  # what is loaded stays: collections need not walk over it between calls
        if config.port_file is not None:
            _write_port(config.port_file, server.port)
        print(f"pgkeras: serving {_inventory(server.store)} on {server.target}", flush=True)
        if server.web is not None:
            scheme = "http" if config.tls_cert is None else "https"
            logger.info("the status page is at %s://%s", scheme, host_and_port(config.http_host, server.web.port))
        await stop.wait()
        logger.info("draining: no new calls are taken")


def _inventory(store: Store) -> str:
    descriptions = [policy.description for policy in store.policies()]
    return ", ".join(f"{d.name} (version {d.version}, {d.engine})" for d in descriptions)


def _write_port(file: Path, port: int) -> None:
    try:
        with whole_file(file, mode=0o600) as scratch:
            scratch.write(f"{port}\n".encode())
    except OSError as error:
        raise ConfigError(f"port_file: cannot write {file}: {error.strerror}") from error
