"""A client that keeps a number of calls or sessions going and counts; it takes orders as JSON lines on stdin.

It sends ready bytes and decodes nothing, so that it can keep a server busy. gRPC's C core does the work.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import grpc


async def _act(call: Any, order: dict[str, Any], end: float, latencies: list[float]) -> None:
    payload = bytes.fromhex(order["payload"])
    while (begin := time.perf_counter()) < end:
        await call(payload, timeout=30)
        latencies.append(time.perf_counter() - begin)


async def _play(call: Any, order: dict[str, Any], end: float, latencies: list[float]) -> None:
    stream, payload = call(), bytes.fromhex(order["payload"])
    await stream.write(bytes.fromhex(order["first"]))
    await stream.read()
    while (begin := time.perf_counter()) < end:
        await stream.write(payload)
        await stream.read()
        latencies.append(time.perf_counter() - begin)
    await stream.done_writing()
    await stream.read()


async def _drive(call: Any, order: dict[str, Any]) -> dict[str, Any]:
    latencies: list[float] = []
    one = _play if "first" in order else _act
    start = time.perf_counter()
    end = start + order["seconds"]
    await asyncio.gather(*(one(call, order, end, latencies) for _ in range(order["in_flight"])))
    elapsed = time.perf_counter() - start
    return {"calls": len(latencies), "seconds": elapsed, "p50": sorted(latencies)[len(latencies) // 2]}


async def _main() -> None:
    channels: dict[str, Any] = {}
    for line in sys.stdin:
        order = json.loads(line)
        target = order["target"]
        if target not in channels:
            options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
            channels[target] = grpc.aio.insecure_channel(target, options)
        kind = channels[target].stream_stream if "first" in order else channels[target].unary_unary
        call = kind(f"/pgkeras.v1.PolicyService/{'Play' if 'first' in order else 'Act'}")
        print(json.dumps(await _drive(call, order)), flush=True)


if __name__ == "__main__":
    asyncio.run(_main())
