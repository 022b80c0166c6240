"""A client that keeps a number of calls in flight and counts them; it takes orders as JSON lines on stdin.

It sends ready bytes and decodes nothing, so that it can keep a server busy. gRPC's C core does the work.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import grpc


async def _drive(call: Any, payload: bytes, in_flight: int, seconds: float) -> dict[str, Any]:
    latencies: list[float] = []
    start = time.perf_counter()
    end = start + seconds

    async def one() -> None:
        while (begin := time.perf_counter()) < end:
            await call(payload, timeout=30)
            latencies.append(time.perf_counter() - begin)

    await asyncio.gather(*(one() for _ in range(in_flight)))
    elapsed = time.perf_counter() - start
    return {"calls": len(latencies), "seconds": elapsed, "p50": sorted(latencies)[len(latencies) // 2]}


async def _main() -> None:
    calls: dict[str, Any] = {}
    for line in sys.stdin:
        order = json.loads(line)
        target = order["target"]
        if target not in calls:
            options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
            calls[target] = grpc.aio.insecure_channel(target, options).unary_unary("/pgkeras.v1.PolicyService/Act")
        result = await _drive(calls[target], bytes.fromhex(order["payload"]), order["in_flight"], order["seconds"])
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    asyncio.run(_main())
