"""Load: what is to be asked of a server, and the run that asks it."""

from __future__ import annotations

import asyncio
import gc
import selectors
import time
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np

from pgkeras.bench import loops, messages
from pgkeras.bench.report import Report
from pgkeras.client.client import PolicyClient, PolicyInfo
from pgkeras.client.connection import Endpoint, Tls
from pgkeras.errors import ConfigError, ServerUnavailableError
from pgkeras.settings.fields import check_fields, setting
from pgkeras.v1 import policy_pb2

__all__ = ["Load", "run"]

_DEFAULT_CONCURRENCY = 8


@dataclass(frozen=True)
class Load:
    """The load to put on a server; ``pgkeras bench --help`` is made from this class.

    Raises:
        ConfigError: A setting is of the wrong type or outside its range, or two contradict each other.
    """

    target: str
    policy: str = setting("", "Which policy; may be left out when the server has only one.")
    policy_version: int | None = setting(None, "Which version; the newest by default.")
    label: str | None = setting(None, "The version that has this label.")
    rpc: str = setting("act", "Single calls, or messages in sessions.", choices=("act", "play"))
    rate: float | None = setting(
        None, "Open loop: calls or messages a second, sent on schedule whatever has been answered.", above=0
    )
    arrivals: str = setting(
        "poisson",
        "Open loop: the schedule, random as of many independent callers, or even.",
        choices=("poisson", "constant"),
    )
    concurrency: int | None = setting(
        None,
        "Closed loop: calls in flight or sessions, each of which sends when it has been answered. Open loop: sessions "
        f"of play.  [default: {_DEFAULT_CONCURRENCY}]",
        minimum=1,
    )
    batch: int = setting(0, "Observations in a call; 0 sends single ones, without a batch axis.", minimum=0)
    connections: int = setting(1, "Connections over which the load is spread.", minimum=1)
    duration: float = setting(10.0, "Seconds of load.", above=0)
    warmup: float = setting(1.0, "Seconds of load before, which are not counted.", minimum=0)
    timeout: float = setting(10.0, "Deadline of a call, in seconds.", above=0)
    seed: int = setting(0, "Seed of the observations and of the schedule.", minimum=0)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.rate is not None and self.concurrency is not None and self.rpc == "act":
            raise ConfigError(
                "rate and concurrency: give one of them, since an open loop sends on schedule however many calls are "
                "in flight"
            )

    @property
    def is_open(self) -> bool:
        """Whether calls are sent on schedule, rather than when others are answered."""
        return self.rate is not None

    @property
    def lanes(self) -> int:
        """How many calls are in flight in a closed loop, or how many sessions there are."""
        return self.concurrency or _DEFAULT_CONCURRENCY


def run(load: Load, *, tls: Tls | bool = False, token: str | None = None, record: loops.Record | None = None) -> Report:
    """Puts a load on a server, and reports how it was answered.

    Args:
        load: What to ask.
        tls: As for :class:`pgkeras.client.PolicyClient`.
        token: As for :class:`pgkeras.client.PolicyClient`.
        record: An empty one, for those who want to watch it being filled.

    Raises:
        ConfigError: ``tls`` or ``token`` is of no use as it is.
        PolicyServiceError: The policy cannot be described, so that there is nothing to ask; or the server takes no
            more connections.
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
    # An epoll waits for whole milliseconds, which is longer than many calls take; a select does not.
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
    gc.freeze()  # what is there stays: collections need not walk over it between calls
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
            f"{load.target} took no {load.connections} connections within {load.timeout:g} s"
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
    lanes = load.lanes
    rate = load.rate or 0.0
    if first is None:
        calls = [loops.act(channel, load.timeout, endpoint.metadata) for channel in channels]
        if load.is_open:
            due = loops.schedule(rate, load.arrivals == "poisson", window, generator)
            return [loops.send_on_schedule(cycle(calls), cycle(payloads), due, window, record)]
        asks = [calls[i % len(calls)] for i in range(lanes)]
    else:
        deadline = window.end - window.begin + load.timeout
        sessions = [
            loops.Session(channels[i % len(channels)], first, deadline, endpoint.metadata) for i in range(lanes)
        ]
        asks = [session.exchange for session in sessions]
    shifted = [cycle(payloads[i % len(payloads) :] + payloads[: i % len(payloads)]) for i in range(lanes)]
    workers = [loops.measure_lag(window, record)]
    for ask, own in zip(asks, shifted, strict=True):
        if load.is_open:
            due = loops.schedule(rate / lanes, load.arrivals == "poisson", window, generator)
            workers.append(loops.step_on_schedule(ask, own, due, load.timeout, window, record))
        else:
            workers.append(loops.keep_asking(ask, own, window, record))
    return workers
