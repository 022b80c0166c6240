"""Load: what is to be asked of a server, and the run that asks it."""

from __future__ import annotations

import asyncio
import gc
import math
import selectors
import time
from dataclasses import Field, dataclass, field, fields
from itertools import cycle
from typing import Any, Literal

import grpc
import numpy as np

from pgkeras.bench import loops, messages
from pgkeras.bench.report import Report
from pgkeras.client import PolicyClient, PolicyInfo
from pgkeras.errors import ConfigError, ServerUnavailableError
from pgkeras.v1 import policy_pb2
from pgkeras.wire import MAX_MESSAGE_BYTES

__all__ = ["Arrivals", "Load", "Rpc", "run", "settings"]

Rpc = Literal["act", "play"]
Arrivals = Literal["poisson", "constant"]

_DEFAULT_CONCURRENCY = 8
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.use_local_subchannel_pool", 1),  # or all channels to one target would share one connection
)


def _about(explanation: str, lowest: float | None = None) -> dict[str, Any]:
    return {"help": explanation, "lowest": lowest}


@dataclass(frozen=True)
class Load:
    """What is to be asked of a server; ``pgkeras bench --help`` is made from this class.

    Raises:
        ConfigError: A number lies outside its range, or two settings contradict each other.
    """

    target: str = field(metadata={"help": "Address of the policy server."})
    policy: str = field(default="", metadata=_about("Which policy; may be left out when the server has only one."))
    policy_version: int | None = field(default=None, metadata=_about("Which version; the newest by default."))
    label: str | None = field(default=None, metadata=_about("The version that has this label."))
    rpc: Rpc = field(default="act", metadata=_about("Single calls, or messages in sessions."))
    rate: float | None = field(
        default=None,
        metadata=_about("Open loop: calls or messages a second, sent on schedule whatever has been answered.", 0.001),
    )
    arrivals: Arrivals = field(
        default="poisson", metadata=_about("Open loop: the schedule, random as of many independent callers, or even.")
    )
    concurrency: int | None = field(
        default=None,
        metadata=_about(
            "Closed loop: calls in flight or sessions, each of which sends when it has been answered. Open loop: "
            f"sessions of play.  [default: {_DEFAULT_CONCURRENCY}]",
            1,
        ),
    )
    batch: int = field(
        default=0, metadata=_about("Observations in a call; 0 sends single ones, without a batch axis.", 0)
    )
    connections: int = field(default=1, metadata=_about("Connections over which the load is spread.", 1))
    duration: float = field(default=10.0, metadata=_about("Seconds of load.", 0.01))
    warmup: float = field(default=1.0, metadata=_about("Seconds of load before, which are not counted.", 0.0))
    timeout: float = field(default=10.0, metadata=_about("Deadline of a call, in seconds.", 0.001))
    seed: int = field(default=0, metadata=_about("Seed of the observations and of the schedule.", 0))

    def __post_init__(self) -> None:
        for setting in settings():
            lowest, value = setting.metadata["lowest"], getattr(self, setting.name)
            if lowest is not None and value is not None and not lowest <= value < math.inf:
                raise ConfigError(f"{setting.name}: expected a number of at least {lowest}, got {value}")
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


def settings() -> list[Field[Any]]:
    """The fields of :class:`Load` that have a default, in order."""
    return [f for f in fields(Load) if "lowest" in f.metadata]


def run(load: Load) -> Report:
    """Puts a load on a server, and reports how it was answered.

    Raises:
        PolicyServiceError: The policy cannot be described, so that there is nothing to ask; or the server takes no
            more connections.
    """
    with PolicyClient(load.target, load.policy, load.policy_version, load.timeout, label=load.label) as client:
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
        return runner.run(_run(load, info, first, payloads))


async def _run(load: Load, info: PolicyInfo, first: bytes | None, payloads: list[bytes]) -> Report:
    channels = [grpc.aio.insecure_channel(load.target, _OPTIONS) for _ in range(load.connections)]
    record = loops.Record()
    gc.collect()
    gc.freeze()  # what is there stays: collections need not walk over it between calls
    try:
        await _connect(load, channels)
        begin = time.perf_counter()
        window = loops.Window(begin, begin + load.warmup, begin + load.warmup + load.duration)
        busy = time.thread_time()
        await asyncio.gather(*_workers(load, channels, first, payloads, window, record))
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
        calls = [loops.act(channel, load.timeout) for channel in channels]
        if load.is_open:
            due = loops.schedule(rate, load.arrivals == "poisson", window, generator)
            return [loops.send_on_schedule(cycle(calls), cycle(payloads), due, window, record)]
        asks = [calls[i % len(calls)] for i in range(lanes)]
    else:
        deadline = window.end - window.begin + load.timeout
        asks = [loops.Session(channels[i % len(channels)], first, deadline).exchange for i in range(lanes)]
    shifted = [cycle(payloads[i % len(payloads) :] + payloads[: i % len(payloads)]) for i in range(lanes)]
    workers = [loops.measure_lag(window, record)]
    for ask, own in zip(asks, shifted, strict=True):
        if load.is_open:
            due = loops.schedule(rate / lanes, load.arrivals == "poisson", window, generator)
            workers.append(loops.step_on_schedule(ask, own, due, window, record))
        else:
            workers.append(loops.keep_asking(ask, own, window, record))
    return workers
