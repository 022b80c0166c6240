"""A client that keeps a number of calls or sessions going and counts; it takes orders as JSON lines on stdin.

It sends ready bytes, so that it can keep a server busy. gRPC's C core does the work.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from itertools import repeat
from typing import Any

import grpc

from pgkeras.bench import loops
from pgkeras.bench.report import quantiles


async def _drive(channel: Any, order: dict[str, Any]) -> dict[str, Any]:
    record, seconds = loops.Record(), order["seconds"]
    payload = bytes.fromhex(order["payload"])
    in_flight, sessions = range(order["in_flight"]), []
    if "first" in order:
        sessions = [loops.SessionCaller(channel, bytes.fromhex(order["first"]), seconds + 30) for _ in in_flight]
    asks = [session.exchange for session in sessions] or [loops.act(channel, 30) for _ in in_flight]
    start = time.perf_counter()
    window = loops.Window(start, start, start + seconds)
    await asyncio.gather(*(loops.keep_asking(ask, repeat(payload), window, record) for ask in asks))
    elapsed = time.perf_counter() - start
    await asyncio.gather(*(session.aclose() for session in sessions))
    if failed := {code: len(values) for code, values in record.latencies.items() if code != "OK"}:
        raise RuntimeError(f"calls failed: {failed}")
    latencies = record.latencies["OK"]
    return {"calls": len(latencies), "seconds": elapsed, "p50": quantiles(latencies)["p50"]}


async def _main() -> None:
    channels: dict[str, Any] = {}
    for line in sys.stdin:
        order = json.loads(line)
        target = order["target"]
        if target not in channels:
            options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
            channels[target] = grpc.aio.insecure_channel(target, options)
        print(json.dumps(await _drive(channels[target], order)), flush=True)


if __name__ == "__main__":
    asyncio.run(_main())
