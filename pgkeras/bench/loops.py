"""Open and closed loops of calls, and what they record.

A closed loop sends when it has been answered, so a server that stalls stalls its callers, and the calls that would have
met the stall are never made: it finds the highest rate, but not the latency at a lower one. An open loop sends on a
schedule, and every latency counts from the moment when the call was *due*: a stall is seen by every call that it held
up, even by those that could not be sent because of it (Tene, "How not to measure latency", 2013).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from google.rpc import code_pb2

from pgkeras.v1 import service_pb2

__all__ = [
    "Ask",
    "Record",
    "SessionCaller",
    "Window",
    "act",
    "keep_asking",
    "measure_lag",
    "schedule",
    "send_on_schedule",
    "step_on_schedule",
]

Ask = Callable[[bytes], Awaitable[tuple[str, str]]]
"""Sends a request and waits for the answer: the name of its status code, and what the server says about it."""

Metadata = tuple[tuple[str, str], ...]

_SERVICE = "/pgkeras.v1.PolicyService"
_OK = "OK"
_ANSWERED = (_OK, "")
_TOO_LATE = ("DEADLINE_EXCEEDED", "the answer before it took so long that it was not sent in time")
_LOOK_SECONDS = 0.01
# A caller that is refused at once waits so long before it opens another session.
_PAUSE_SECONDS = 0.1
_AHEAD = 1024
# What grpc.aio says, with its own INTERNAL, when a session was ended while a message was being written.
_LOST_STATUS = "Internal error from Core"


@dataclass(frozen=True)
class Window:
    """The span of a run, by ``time.perf_counter``.

    Args:
        begin: When load begins.
        start: From when on it is counted.
        end: When the last call is sent.
    """

    begin: float
    start: float
    end: float


@dataclass
class Record:
    """The measurements of one run.

    Args:
        latencies: Seconds, of every call, by the name of its status code.
        reasons: What was said first about each code but OK.
        lags: Seconds that this process was late to do what was due.
    """

    latencies: dict[str, array[float]] = field(default_factory=lambda: {_OK: array("d")})
    reasons: dict[str, str] = field(default_factory=dict)
    lags: array[float] = field(default_factory=lambda: array("d"))

    def add(self, answer: tuple[str, str], seconds: float) -> None:
        """Counts a call, with what an :data:`Ask` gave for it."""
        code, reason = answer
        self.latencies.setdefault(code, array("d")).append(seconds)
        if code != _OK:
            self.reasons.setdefault(code, reason)


def act(channel: Any, timeout: float, metadata: Metadata = ()) -> Ask:
    """Single calls on a channel, each with a deadline of so many seconds."""
    method = channel.unary_unary(f"{_SERVICE}/Act")

    async def ask(payload: bytes) -> tuple[str, str]:
        try:
            await method(payload, timeout=timeout, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            return error.code().name, error.details() or ""
        return _ANSWERED

    return ask


class SessionCaller:
    """Messages in a session, which is opened when it is needed, and again after it has failed.

    Args:
        channel: Where to.
        first: The first message of every session.
        deadline: Seconds that a session may last.
        metadata: What every call carries.
    """

    def __init__(self, channel: Any, first: bytes, deadline: float, metadata: Metadata = ()) -> None:
        self._method = channel.stream_stream(f"{_SERVICE}/Play")
        self._first = first
        self._deadline = deadline
        self._metadata = metadata
        self._stream: Any = None

    async def exchange(self, payload: bytes) -> tuple[str, str]:
        """Sends a message and waits for its answer: its status or the session's, as an :data:`Ask` gives it."""
        if self._stream is None:
            self._stream = self._method(timeout=self._deadline, metadata=self._metadata)
            answer = await self._exchange(self._first)
            if answer != _ANSWERED:
                return answer
        return await self._exchange(payload)

    async def aclose(self) -> None:
        """Ends the session, if it is open, and waits for the server to end it."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # it has ended already
            await stream.done_writing()
        await stream.code()

    async def _exchange(self, payload: bytes) -> tuple[str, str]:
        stream = self._stream
        try:
            await stream.write(payload)
            answer = await stream.read()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            answer = grpc.aio.EOF
        if answer is grpc.aio.EOF:
            self._stream = None
            code, details = (await stream.code()).name, await stream.details() or ""
            await asyncio.sleep(_PAUSE_SECONDS)
            if details == _LOST_STATUS:
                return "UNKNOWN", details
            return ("UNAVAILABLE", "the session was ended") if code == _OK else (str(code), details)
        error = service_pb2.PlayResponse.FromString(answer).error
        return (code_pb2.Code.Name(error.code), error.message) if error.code else _ANSWERED


async def keep_asking(ask: Ask, payloads: Iterator[bytes], window: Window, record: Record) -> None:
    """A closed loop of one: asks again whenever it has been answered."""
    while (begin := time.perf_counter()) < window.end:
        answer = await ask(next(payloads))
        if begin >= window.start:
            record.add(answer, time.perf_counter() - begin)


async def send_on_schedule(
    asks: Iterator[Ask], payloads: Iterator[bytes], schedule: Iterator[float], window: Window, record: Record
) -> None:
    """An open loop: every call is sent when it is due, however many are in flight."""

    async def one(due: float) -> None:
        begin = time.perf_counter()
        answer = await next(asks)(next(payloads))
        if due >= window.start:
            record.lags.append(begin - due)
            record.add(answer, time.perf_counter() - due)

    async with asyncio.TaskGroup() as group:
        for due in schedule:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(due))


async def step_on_schedule(
    ask: Ask, payloads: Iterator[bytes], schedule: Iterator[float], timeout: float, window: Window, record: Record
) -> None:
    """An open loop of one session: a message waits for the answer before it, but is due when it is due.

    One that could not be sent within so many seconds of that is given up, as its caller would have done.
    """
    for due in schedule:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        late = time.perf_counter() - due > timeout
        answer = _TOO_LATE if late else await ask(next(payloads))
        if due >= window.start:
            record.add(answer, time.perf_counter() - due)


async def measure_lag(window: Window, record: Record) -> None:
    """Records how late this process is, by a task that has nothing to do but to be on time."""
    while (due := time.perf_counter() + _LOOK_SECONDS) < window.end:
        await asyncio.sleep(_LOOK_SECONDS)
        record.lags.append(time.perf_counter() - due)


def schedule(rate: float, is_poisson: bool, window: Window, generator: np.random.Generator) -> Iterator[float]:
    """The moments when calls are due, up to the window's end.

    Args:
        rate: Calls a second.
        is_poisson: Whether the gaps are exponential, as between the calls of many independent callers; else they are
            all equal, from a random beginning.
        window: The span.
        generator: Where randomness comes from.
    """
    last = window.begin - (0.0 if is_poisson else generator.random() / rate)
    while True:
        gaps = generator.exponential(1 / rate, _AHEAD) if is_poisson else np.full(_AHEAD, 1 / rate)
        for due in (last + np.cumsum(gaps)).tolist():
            if due >= window.end:
                return
            yield due
        last = due
