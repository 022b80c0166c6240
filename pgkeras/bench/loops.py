"""Open and closed loops of calls, and their measurements.

A closed loop sends the next call after a response. If the server stalls, the callers stall, too, and most calls that
would have seen the stall are never made. A closed loop therefore measures the highest rate, but not the latency at
lower rates. An open loop sends on a schedule, and latencies count from the time when a call was *due*. Every delayed
call thus sees a stall, including calls that could not be sent because of it (Tene, "How not to measure latency", 2013).
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
"""Sends a request and waits for the response. Returns the name of the status code, and the server's message."""

Metadata = tuple[tuple[str, str], ...]

_SERVICE = "/pgkeras.v1.PolicyService"
_OK = "OK"
_ANSWERED = (_OK, "")
_TOO_LATE = ("DEADLINE_EXCEEDED", "the answer before it took so long that it was not sent in time")
_LOOK_SECONDS = 0.01
# Delay before a caller whose session failed opens another one.
_PAUSE_SECONDS = 0.1
_AHEAD = 1024
# The message of grpc.aio, with code INTERNAL, if a session ended while a message was being written.
_LOST_STATUS = "Internal error from Core"


@dataclass(frozen=True)
class Window:
    """The times of a run (``time.perf_counter``).

    Args:
        begin: Start of the load.
        start: Start of the measurement.
        end: Time after which no call is sent.
    """

    begin: float
    start: float
    end: float


@dataclass
class Record:
    """The measurements of one run.

    Args:
        latencies: Latency of every call in seconds, by the name of its status code.
        reasons: The first message for each code except OK.
        lags: Delays of this process in seconds: how late it did what was due.
    """

    latencies: dict[str, array[float]] = field(default_factory=lambda: {_OK: array("d")})
    reasons: dict[str, str] = field(default_factory=dict)
    lags: array[float] = field(default_factory=lambda: array("d"))

    def add(self, answer: tuple[str, str], seconds: float) -> None:
        """Adds a call, given the result of its :data:`Ask`."""
        code, reason = answer
        self.latencies.setdefault(code, array("d")).append(seconds)
        if code != _OK:
            self.reasons.setdefault(code, reason)


def act(channel: Any, timeout: float, metadata: Metadata = ()) -> Ask:
    """Returns a function that makes single calls on a channel, each with a timeout in seconds."""
    method = channel.unary_unary(f"{_SERVICE}/Act")

    async def ask(payload: bytes) -> tuple[str, str]:
        try:
            await method(payload, timeout=timeout, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            return error.code().name, error.details() or ""
        return _ANSWERED

    return ask


class SessionCaller:
    """Sends messages in a session, which is opened on demand, and again after a failure.

    Args:
        channel: The channel.
        first: The first message of every session.
        deadline: Maximum duration of a session in seconds.
        metadata: Metadata of every call.
    """

    def __init__(self, channel: Any, first: bytes, deadline: float, metadata: Metadata = ()) -> None:
        self._method = channel.stream_stream(f"{_SERVICE}/Play")
        self._first = first
        self._deadline = deadline
        self._metadata = metadata
        self._stream: Any = None

    async def exchange(self, payload: bytes) -> tuple[str, str]:
        """Sends a message and waits for its response; an :data:`Ask`. The status is the message's or the session's."""
        if self._stream is None:
            self._stream = self._method(timeout=self._deadline, metadata=self._metadata)
            answer = await self._exchange(self._first)
            if answer != _ANSWERED:
                return answer
        return await self._exchange(payload)

    async def aclose(self) -> None:
        """Closes the session, if it is open, and waits for the server to end it."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # the session has already ended
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
    """Runs a closed loop with one caller, which sends again after each response."""
    while (begin := time.perf_counter()) < window.end:
        answer = await ask(next(payloads))
        if begin >= window.start:
            record.add(answer, time.perf_counter() - begin)


async def send_on_schedule(
    asks: Iterator[Ask], payloads: Iterator[bytes], schedule: Iterator[float], window: Window, record: Record
) -> None:
    """Runs an open loop: sends every call when it is due, independent of the number of calls in progress."""

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
    """Runs an open loop in one session.

    A message waits for the previous response, but its latency counts from its due time. A message that cannot be sent
    within ``timeout`` seconds of its due time is dropped, as its caller would do.
    """
    for due in schedule:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        late = time.perf_counter() - due > timeout
        answer = _TOO_LATE if late else await ask(next(payloads))
        if due >= window.start:
            record.add(answer, time.perf_counter() - due)


async def measure_lag(window: Window, record: Record) -> None:
    """Records the delays of this process with a task that only sleeps and measures how late it wakes up."""
    while (due := time.perf_counter() + _LOOK_SECONDS) < window.end:
        await asyncio.sleep(_LOOK_SECONDS)
        record.lags.append(time.perf_counter() - due)


def schedule(rate: float, is_poisson: bool, window: Window, generator: np.random.Generator) -> Iterator[float]:
    """Yields the due times of calls, up to the window's end.

    Args:
        rate: Calls per second.
        is_poisson: Whether the intervals are exponential, as between calls of many independent callers. Otherwise they
            are constant, with a random start.
        window: The times of the run.
        generator: Source of randomness.
    """
    last = window.begin - (0.0 if is_poisson else generator.random() / rate)
    while True:
        gaps = generator.exponential(1 / rate, _AHEAD) if is_poisson else np.full(_AHEAD, 1 / rate)
        for due in (last + np.cumsum(gaps)).tolist():
            if due >= window.end:
                return
            yield due
        last = due
