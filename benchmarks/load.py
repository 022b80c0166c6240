"""A load generator that keeps a number of calls or sessions in flight. It reads commands as JSON lines from stdin.

It sends serialized requests, which lets one process saturate a server. gRPC's C core does the work.
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


async def _drive(channel: Any, command: dict[str, Any]) -> dict[str, Any]:
    record, seconds = loops.Record(), command["seconds"]
    payload = bytes.fromhex(command["payload"])
    in_flight, sessions = range(command["in_flight"]), []
    if "first" in command:
        sessions = [loops.SessionCaller(channel, bytes.fromhex(command["first"]), seconds + 30) for _ in in_flight]
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
        command = json.loads(line)
        target = command["target"]
        if target not in channels:
            options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
            channels[target] = grpc.aio.insecure_channel(target, options)
        print(json.dumps(await _drive(channels[target], command)), flush=True)


if __name__ == "__main__":
    asyncio.run(_main())
