"""Measures sessions of the client and bare gRPC streams. ``conformance/README.md`` describes its commands."""

from __future__ import annotations

import asyncio
import json
import queue
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import numpy as np

from pgkeras import PolicyClient
from pgkeras.protocol.wire import encode_tensor
from pgkeras.v1 import service_pb2, service_pb2_grpc


class Echo(service_pb2_grpc.PolicyServiceServicer):
    """Responds to every message with zeros, one per row."""

    async def Play(self, requests: AsyncIterator[Any], context: Any) -> None:  # noqa: N802
        async for request in requests:
            action = encode_tensor(np.zeros(request.observation.tensor.shape[0], np.int64))
            await context.write(service_pb2.PlayResponse(id=request.id, act=service_pb2.ActResponse(action=action)))


async def _serve(port: queue.SimpleQueue[int]) -> None:
    server = grpc.aio.server()
    service_pb2_grpc.add_PolicyServiceServicer_to_server(Echo(), server)
    port.put(server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    await server.wait_for_termination()


def serve() -> dict[str, Any]:
    port: queue.SimpleQueue[int] = queue.SimpleQueue()
    threading.Thread(target=lambda: asyncio.run(_serve(port)), daemon=True).start()
    return {"port": port.get(timeout=30)}


def play(target: str, environments: int, seconds: float) -> dict[str, Any]:
    observation, reward = np.zeros((environments, 4), np.float32), np.ones(environments, np.float32)
    ends = np.zeros(environments, np.bool_)
    with PolicyClient(target, "cartpole-v1") as client, client.play("greedy") as session:
        session.step(observation)
        return measure(seconds, lambda: session.step(observation, reward, ends, ends))


def echo(target: str, environments: int, seconds: float) -> dict[str, Any]:
    ends = encode_tensor(np.zeros(environments, np.bool_))
    request = service_pb2.PlayRequest(
        id=1, reward=encode_tensor(np.ones(environments, np.float32)), terminated=ends, truncated=ends
    )
    request.observation.tensor.CopyFrom(encode_tensor(np.zeros((environments, 4), np.float32)))
    outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with grpc.insecure_channel(target) as channel:
        stub = service_pb2_grpc.PolicyServiceStub(channel)
        answers = stub.Play(iter(outbox.get, None), timeout=seconds + 30)

        def step() -> None:
            outbox.put(request)
            next(answers)

        report = measure(seconds, step)
        outbox.put(None)
        return report


def measure(seconds: float, step: Callable[[], object]) -> dict[str, Any]:
    latencies = []
    begin = time.perf_counter()
    while (start := time.perf_counter()) - begin < seconds:
        step()
        latencies.append(time.perf_counter() - start)
    elapsed = time.perf_counter() - begin
    p50, p99 = np.quantile(latencies, [0.5, 0.99]) * 1e6
    return {"messages": len(latencies), "seconds": elapsed, "p50_us": float(p50), "p99_us": float(p99)}


def execute(command: str) -> dict[str, Any]:
    verb, *arguments = command.split()
    if verb == "serve":
        return serve()
    target, environments, seconds = arguments
    return {"play": play, "echo": echo}[verb](target, int(environments), float(seconds))


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(execute(line)), flush=True)
