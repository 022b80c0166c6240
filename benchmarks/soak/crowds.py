"""Many concurrent sessions, playing and idle."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.soak.server import SHIPPED, serving
from pgkeras import bench
from pgkeras.bench.messages import play_requests
from pgkeras.bench.report import quantiles
from pgkeras.client import PolicyClient
from pgkeras.v1 import policy_pb2, service_pb2

__all__ = ["crowd"]


def crowd(scratch: Path, sessions: int = 1000, seconds: float = 5.0, connections: int = 4) -> dict[str, Any]:
    """Plays ``sessions`` concurrent sessions. Then keeps the same number idle, and makes calls at the same time.

    Args:
        scratch: A directory.
        sessions: Number of sessions.
        seconds: Duration of playing, and of the calls.
        connections: Number of connections.
    """
    with serving(SHIPPED, scratch, "--max-sessions", str(sessions)) as server:
        rss = [server.rss_mb()]
        alone = bench.run(bench.Load(server.target, rate=100.0, duration=seconds))
        playing = bench.run(
            bench.Load(
                server.target, rpc="play", concurrency=sessions, connections=connections, duration=seconds, timeout=60.0
            )
        )
        rss.append(server.rss_mb())
        idle, beside, refused = asyncio.run(_idle(server.target, sessions, connections, seconds))
        rss.append(server.rss_mb())
        clean = "Traceback" not in server.log.read_text()
        status = server.stop()
    return {
        "sessions": sessions,
        "playing": playing.codes,
        "messages_per_second": playing.answered_per_second,
        "playing_ms": {name: value * 1e3 for name, value in quantiles(playing.latencies).items()},
        "idle_sessions": idle,
        "one_too_many": refused,
        "calls_beside_idle": beside.codes,
        "calls_beside_idle_p50_ratio": quantiles(beside.latencies)["p50"] / quantiles(alone.latencies)["p50"],
        "calls_beside_idle_p99_ratio": quantiles(beside.latencies)["p99"] / quantiles(alone.latencies)["p99"],
        "rss_mb_start_playing_idle": [round(mb, 1) for mb in rss],
        "clean_log": clean,
        "exit_status": status,
    }


async def _idle(target: str, sessions: int, connections: int, seconds: float) -> tuple[int, bench.Report, str]:
    with PolicyClient(target) as client:
        first, _ = play_requests(client.describe(), policy_pb2.PolicyRef(), 1, np.random.default_rng(0))
    options = (("grpc.use_local_subchannel_pool", 1),)
    channels = [grpc.aio.insecure_channel(target, options) for _ in range(connections)]
    streams = [channels[i % connections].stream_stream("/pgkeras.v1.PolicyService/Play")() for i in range(sessions)]

    async def open_one(stream: Any) -> bool:
        await stream.write(first)
        return service_pb2.PlayResponse.FromString(await stream.read()).HasField("act")

    opened = sum(await asyncio.gather(*map(open_one, streams)))
    # Sends no message, because grpc.aio replaces a refusal that arrives during a write by INTERNAL.
    another = channels[0].stream_stream("/pgkeras.v1.PolicyService/Play")(timeout=30.0)
    refused = (await another.code()).name
    report = await asyncio.to_thread(bench.run, bench.Load(target, rate=100.0, duration=seconds))
    for stream in streams:
        await stream.done_writing()
    ended = [await stream.code() for stream in streams]
    await asyncio.gather(*(channel.close() for channel in channels))
    return opened * (set(ended) == {grpc.StatusCode.OK}), report, refused
