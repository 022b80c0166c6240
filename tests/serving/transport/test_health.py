"""Health watches: their messages, and that a watcher that reads nothing blocks nothing."""

from __future__ import annotations

import asyncio
import contextlib
import shutil

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pgkeras_serving.server import serving
from pgkeras_serving.settings.config import ServerConfig

from benchmarks.soak.server import SHIPPED
from tests.serving.transport import http2

STATUS = health_pb2.HealthCheckResponse


async def watch_without_reading(port, service=""):
    """Starts a health watch on a connection with a flow-control window of 0; returns once the call has started."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    no_window = http2.frame(http2.SETTINGS, b"\0\4" + bytes(4), stream=0)  # SETTINGS_INITIAL_WINDOW_SIZE = 0
    no_window += http2.frame(http2.SETTINGS, b"", http2.ACKNOWLEDGED, stream=0)  # acknowledges the server's settings
    request = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    message = b"\0" + len(request).to_bytes(4) + request
    headers = http2.call_headers(b"/grpc.health.v1.Health/Watch")
    call = http2.frame(http2.HEADERS, headers, http2.LAST_HEADERS) + http2.frame(http2.DATA, message, http2.END)
    writer.write(http2.PREFACE + no_window + call)
    while True:  # response headers are not subject to flow control, but the first message is
        head = await reader.readexactly(9)
        await reader.readexactly(int.from_bytes(head[:3]))
        if head[3] == http2.HEADERS:
            return writer


@contextlib.asynccontextmanager
async def watched(config):
    """A server in this process, and a stub of its health service."""
    async with (
        asyncio.timeout(60),
        serving(config) as server,
        grpc.aio.insecure_channel(server.target) as channel,
    ):
        yield server, health_pb2_grpc.HealthStub(channel)


def test_a_watcher_that_reads_nothing_delays_neither_shutdown_nor_other_watchers():
    async def main():
        config = ServerConfig(SHIPPED, port=0, drain_delay_seconds=0.0, drain_seconds=0.0)
        async with watched(config) as (server, stub):
            blocked = await watch_without_reading(server.port)
            watch = stub.Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == STATUS.SERVING
            await server.drain()
            assert (await watch.read()).status == STATUS.NOT_SERVING
            blocked.close()

    asyncio.run(main())


def test_a_watcher_that_reads_nothing_does_not_delay_new_versions(policies, tmp_path):
    root = tmp_path / "policies"
    shutil.copytree(policies / "discrete", root / "discrete")

    async def main():
        config = ServerConfig(root, port=0, poll_seconds=0.02, drain_delay_seconds=0.0, drain_seconds=0.0)
        async with watched(config) as (server, stub):
            blocked = await watch_without_reading(server.port, "policies/gaussian")
            watches = [stub.Watch(health_pb2.HealthCheckRequest(service=f"policies/{n}")) for n in ("gaussian", "last")]
            for watch in watches:
                assert (await watch.read()).status == STATUS.SERVICE_UNKNOWN
            for name, watch in zip(("gaussian", "last"), watches, strict=True):
                shutil.copytree(policies / "gaussian", root / name)
                assert (await watch.read()).status == STATUS.SERVING
            shutil.rmtree(root / "last")
            assert (await watches[1].read()).status == STATUS.NOT_SERVING
            blocked.close()

    asyncio.run(main())
