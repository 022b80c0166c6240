"""The policy server: binds its address, loads policies, answers calls, and drains."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from pgkeras.errors import MissingExtraError
from pgkeras.v1 import service_pb2
from pgkeras_serving.process import event_loop, stop_signal, unless_stopped, until_stopped
from pgkeras_serving.sessions.policies import Policies, ServedPolicies
from pgkeras_serving.sessions.sessions import Sessions
from pgkeras_serving.settings.config import ServerConfig
from pgkeras_serving.telemetry.logs import AccessLog
from pgkeras_serving.telemetry.metrics import Requests
from pgkeras_serving.telemetry.snapshot import Snapshot, VersionSnapshot
from pgkeras_serving.transport.access import TokenInterceptor
from pgkeras_serving.transport.grpc_server import GrpcServer
from pgkeras_serving.transport.health import HEALTH, Health
from pgkeras_serving.transport.listener import address
from pgkeras_serving.transport.methods import Methods, Refusals
from pgkeras_serving.transport.reflection import Reflection
from pgkeras_serving.transport.servicer import PolicyServicer
from pgkeras_serving.transport.tokens import Tokens

try:
    from grpc_health.v1 import health_pb2
except ImportError as error:
    raise MissingExtraError(str(error.name), "serve", "serve policies") from error

if TYPE_CHECKING:
    from pgkeras_serving.telemetry.tracing import Tracing

__all__ = ["PolicyServer", "run", "serving"]

logger = logging.getLogger(__name__)

_DESCRIPTOR = service_pb2.DESCRIPTOR.services_by_name["PolicyService"]
_SERVICE = _DESCRIPTOR.full_name
# New calls are refused until none has arrived for the first time, but no longer than the second.
_QUIET_SECONDS, _MAX_QUIET_SECONDS = 0.05, 1.0
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class PolicyServer:
    """A running server; :func:`serving` starts and stops one.

    Args:
        config: The server's settings.
        policies: The policies to serve; by default those on disk.

    Raises:
        ConfigError: The address cannot be used, or a certificate or the token file is invalid.
    """

    def __init__(self, config: ServerConfig, policies: Policies | None = None) -> None:
        self.store: Policies = ServedPolicies(config) if policies is None else policies
        self.requests = Requests()
        self._config = config
        self._health = Health()
        self._reflection = Reflection([_SERVICE, HEALTH.full_name])
        self._healthy: set[str] = set()
        self._is_ready = False
        self._following: asyncio.Task[None] | None = None
        self._tokens = None if config.token_file is None else Tokens(config.token_file)
        self._sessions = Sessions(config.max_sessions, config.session_idle_seconds)
        self._access = AccessLog(config.log_observations) if config.log_access else None
        self._tracing, self._servicer = _servicer(config, self.store, self._sessions, self.requests, self._access)
        self._refusals = Refusals(self.requests, self._access)
        interceptors = [] if self._tokens is None else [TokenInterceptor(self._tokens, self._refusals)]
        self._grpc = GrpcServer(config, self._register, interceptors)
        self.web = None
        if config.http_port is not None:
            from pgkeras_serving.pages.web import Web

            self.web = Web(config, self._tokens, self.snapshot)

    @property
    def target(self) -> str:
        """The address that it listens on, HOST:PORT or unix:PATH."""
        return address(self._config, self.port)

    @property
    def port(self) -> int:
        """The port that it listens on; 0 for a Unix-domain socket."""
        return self._grpc.port

    def snapshot(self) -> Snapshot:
        """Returns the current state for pages and metrics. It shares the counters with the server."""
        return Snapshot(
            versions=[
                VersionSnapshot(p.description, p.spec, p.batcher.queued_rows, p.meter, p.episodes)
                for p in self.store.policies()
            ],
            labels=self.store.labels(),
            failures=self.store.failures(),
            sessions=len(self._sessions),
            requests=dict(self.requests.counts),
            processes=[os.getpid()],
            run=self.store.run(),
        )

    async def start(self) -> None:
        """Starts answering health checks immediately, and other calls after loading and warming up the policies.

        Raises:
            BundleError: There is no policy that can be served.
        """
        self._report(_NOT_SERVING)
        if self.web is not None:
            self.web.target = self.target
            await self.web.start()
        await self._grpc.start()
        await asyncio.to_thread(self.store.load)
        served = {policy.version.name for policy in self.store.policies()}
        for name in sorted(set(self._config.policies) - served):
            logger.warning("policies.%s: no such policy is served; there is: %s", name, ", ".join(sorted(served)))
        self._following = asyncio.create_task(self._follow())
        self._report_policies()

    async def drain(self) -> None:
        """Reports NOT_SERVING, later refuses new calls, finishes the calls in progress, and stops.

        1. For ``drain_delay_seconds``, calls are answered as before, so that load balancers notice that the server is
           no longer ready.
        2. New calls are refused with UNAVAILABLE until none arrive. Calls that reach gRPC's server while it stops would
           fail with CANCELLED, which clients do not retry.
        3. Calls in progress have ``drain_seconds`` to finish. A session ends after its current message, and its client
           is told to connect again.
        """
        if self._following is not None:
            self._following.cancel()
        if self.web is not None:
            self.web.state = "draining"
        delay = self._config.drain_delay_seconds if self._is_ready else 0.0
        self._servicer.draining = not delay  # without a delay, new calls are refused from NOT_SERVING on
        await self._health.announce_end()
        await asyncio.sleep(delay)
        self._servicer.draining = True
        self._sessions.end()
        self._reflection.end()
        began = time.monotonic()
        while (now := time.monotonic()) < began + min(_MAX_QUIET_SECONDS, self._config.drain_seconds):
            if now - max(began, self._servicer.last_refused) >= _QUIET_SECONDS:
                break
            await asyncio.sleep(_QUIET_SECONDS / 5)
        self._health.end()  # not earlier: clients would start new Watch calls
        await self._grpc.stop(self._config.drain_seconds)
        if self.web is not None:
            await self.web.stop()
        self.store.close()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)

    def _register(self, server: grpc.aio.Server) -> None:
        most = self._config.max_header_bytes
        others = [(HEALTH, self._health), *((service, self._reflection) for service in self._reflection.services)]
        server.add_generic_rpc_handlers(
            [
                Methods(_DESCRIPTOR, self._servicer, self._refusals, most),
                *(Methods(service, servicer, self._refusals, most, parsed=True) for service, servicer in others),
            ]
        )

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._config.poll_seconds)
            try:
                await asyncio.to_thread(self.store.refresh)
                self._report_policies()
            except Exception:  # the next attempt may succeed, and the loaded versions stay in service
                logger.exception("looking for new versions failed")

    def _report_policies(self) -> None:
        """Reports for every policy whether a version is loaded, including policies that were deleted."""
        names = {policy.version.name for policy in self.store.policies()}
        if self.store.is_ready and not self._is_ready:  # stays so: loaded versions are never all dropped
            self._is_ready = True
            self._report(health_pb2.HealthCheckResponse.SERVING)
            if self.web is not None:
                self.web.state = "serving"
        for name in names ^ self._healthy:
            status = health_pb2.HealthCheckResponse.SERVING if name in names else _NOT_SERVING
            self._health.set(f"policies/{name}", status)
        self._healthy = names

    def _report(self, status: Any) -> None:
        for service in ("", _SERVICE):
            self._health.set(service, status)


def _servicer(config: ServerConfig, *arguments: Any) -> tuple[Tracing | None, PolicyServicer]:
    if not config.traces:
        return None, PolicyServicer(*arguments)
    from pgkeras_serving.telemetry.tracing import Tracing
    from pgkeras_serving.transport.traced import TracedServicer

    tracing = Tracing()
    return tracing, TracedServicer(tracing, *arguments)


@contextlib.asynccontextmanager
async def serving(
    config: ServerConfig, policies: Policies | None = None, stop: asyncio.Event | None = None
) -> AsyncIterator[PolicyServer]:
    """Starts a server, and drains it when the context ends.

    Args:
        config: The server's settings.
        policies: The policies to serve; by default those on disk.
        stop: Interrupts the start when it is set. The body must check it.

    Raises:
        ConfigError: The address cannot be used, or a certificate or the token file is invalid.
        BundleError: There is no policy that can be served.
    """
    server = PolicyServer(config, policies)
    try:
        await unless_stopped(server.start(), asyncio.Event() if stop is None else stop)
        yield server
    finally:
        await server.drain()


def run(config: ServerConfig) -> None:
    """Serves until SIGTERM, SIGINT or SIGHUP, then drains.

    Raises:
        ConfigError: The address cannot be used, or a certificate or the token file is invalid.
        BundleError: There is no policy that can be served.
    """
    with asyncio.Runner(loop_factory=event_loop) as runner:
        runner.run(_run(config))


async def _run(config: ServerConfig) -> None:
    stop = stop_signal()
    # Requests are checked for overflows, so NumPy's warnings would be redundant.
    np.seterr(over="ignore", invalid="ignore")
    async with serving(config, stop=stop) as server:
        if stop.is_set():
            return
        gc.freeze()  # excludes the loaded objects from garbage collections between calls
        await until_stopped(config, server, (policy.description for policy in server.store.policies()), stop)
