"""Runs a load test."""

from __future__ import annotations

import asyncio
import gc
import selectors
import time
from itertools import cycle
from typing import Any

import numpy as np

from pgkeras.bench import loops, messages
from pgkeras.bench.load import Load
from pgkeras.bench.report import Report
from pgkeras.client.client import PolicyClient, PolicyInfo
from pgkeras.client.connection import Endpoint, Tls
from pgkeras.errors import ServerUnavailableError
from pgkeras.v1 import policy_pb2

__all__ = ["run"]


def run(load: Load, *, tls: Tls | bool = False, token: str | None = None, record: loops.Record | None = None) -> Report:
    """Runs a load test and returns its results.

    Args:
        load: The settings of the load test.
        tls: As for :class:`pgkeras.client.PolicyClient`.
        token: As for :class:`pgkeras.client.PolicyClient`.
        record: An empty record to fill, for observers.

    Raises:
        ConfigError: ``tls`` or ``token`` is invalid.
        PolicyServiceError: The policy cannot be described, or the server accepts no more connections.
    """
    endpoint = Endpoint.of(load.target, tls, token)
    with PolicyClient(
        load.target, load.policy, load.policy_version, load.timeout, label=load.label, tls=tls, token=token
    ) as client:
        info = client.describe()
    ref = policy_pb2.PolicyRef(name=info.name, version=load.policy_version, label=load.label)
    rows = load.batch or None
    generator = np.random.default_rng(load.seed)
    if load.rpc == "act":
        first, payloads = None, messages.act_requests(info, ref, rows, generator)
    else:
        first, payloads = messages.play_requests(info, ref, rows or 1, generator)
    # epoll waits for whole milliseconds, which is longer than many calls take; select does not.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        return runner.run(_run(load, endpoint, info, first, payloads, record or loops.Record()))


async def _run(
    load: Load,
    endpoint: Endpoint,
    info: PolicyInfo,
    first: bytes | None,
    payloads: list[bytes],
    record: loops.Record,
) -> Report:
    channels = [endpoint.connect_aio() for _ in range(load.connections)]
    gc.collect()
    gc.freeze()  # excludes the existing objects from garbage collections between calls
    try:
        await _connect(load, channels)
        begin = time.perf_counter()
        window = loops.Window(begin, begin + load.warmup, begin + load.warmup + load.duration)
        busy = time.thread_time()
        await asyncio.gather(*_workers(load, endpoint, channels, first, payloads, window, record))
        elapsed = time.perf_counter() - begin
        busy = (time.thread_time() - busy) / elapsed
    finally:
        gc.unfreeze()
        await asyncio.gather(*(channel.close() for channel in channels))
    return Report.of(load, info, record, elapsed - load.warmup, busy)


async def _connect(load: Load, channels: list[Any]) -> None:
    try:
        async with asyncio.timeout(load.timeout):
            await asyncio.gather(*(channel.channel_ready() for channel in channels))
    except TimeoutError as error:
        raise ServerUnavailableError(
            f"{load.target} did not accept {load.connections} connections within {load.timeout:g} s"
        ) from error


def _workers(
    load: Load,
    endpoint: Endpoint,
    channels: list[Any],
    first: bytes | None,
    payloads: list[bytes],
    window: loops.Window,
    record: loops.Record,
) -> list[Any]:
    generator = np.random.default_rng(load.seed + 1)
    number = load.in_flight
    rate = load.rate or 0.0
    if first is None:
        calls = [loops.act(channel, load.timeout, endpoint.metadata) for channel in channels]
        if load.is_open:
            due = loops.schedule(rate, load.arrivals == "poisson", window, generator)
            return [loops.send_on_schedule(cycle(calls), cycle(payloads), due, window, record)]
        asks = [calls[i % len(calls)] for i in range(number)]
    else:
        deadline = window.end - window.begin + load.timeout
        sessions = [
            loops.SessionCaller(channels[i % len(channels)], first, deadline, endpoint.metadata) for i in range(number)
        ]
        asks = [session.exchange for session in sessions]
    shifted = [cycle(payloads[i % len(payloads) :] + payloads[: i % len(payloads)]) for i in range(number)]
    workers = [loops.measure_lag(window, record)]
    for ask, own in zip(asks, shifted, strict=True):
        if load.is_open:
            due = loops.schedule(rate / number, load.arrivals == "poisson", window, generator)
            workers.append(loops.step_on_schedule(ask, own, due, load.timeout, window, record))
        else:
            workers.append(loops.keep_asking(ask, own, window, record))
    return workers
