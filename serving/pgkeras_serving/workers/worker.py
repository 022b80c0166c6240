"""A worker: a policy server controlled by the supervisor."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from typing import Any

import numpy as np

from pgkeras_serving.process import event_loop
from pgkeras_serving.server import PolicyServer
from pgkeras_serving.telemetry import logs
from pgkeras_serving.telemetry.snapshot import Snapshot
from pgkeras_serving.workers.channel import Channel
from pgkeras_serving.workers.commands import Drain, Listen, Refresh, Report, Start
from pgkeras_serving.workers.switch import Switch, SwitchedPolicies

__all__ = ["main"]


def main(descriptor: int) -> None:
    """Serves until the supervisor ends the worker, or the supervisor itself has ended.

    Args:
        descriptor: Descriptor of the worker's end of the socket pair.
    """
    for number in {signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT)}:
        signal.signal(number, signal.SIG_IGN)  # a terminal sends them to all processes; the supervisor handles them
    with asyncio.Runner(loop_factory=event_loop) as runner:
        runner.run(_work(socket.socket(fileno=descriptor)))


async def _work(end: socket.socket) -> None:
    np.seterr(over="ignore", invalid="ignore")  # as in a single process
    worker = _Worker()
    channel = await Channel.open(end, worker.answer)
    loop = asyncio.get_running_loop()
    signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(worker.over.set))
    ends = [asyncio.create_task(channel.closed()), asyncio.create_task(worker.over.wait())]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    await worker.drain()


class _Worker:
    """Handles the supervisor's requests."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self._policies: SwitchedPolicies | None = None
        self._server: PolicyServer | None = None
        self._start: Start | None = None

    async def answer(self, question: Any) -> Any:
        """See :mod:`pgkeras_serving.workers.commands`."""
        match question:
            case Start():
                logs.configure(question.config, worker=question.number)
                self._start = question
                self._policies = SwitchedPolicies(question.config, Switch(question.switch))
            case Refresh():
                assert self._policies is not None
                return await asyncio.to_thread(self._policies.load_generation, question.generation)
            case Listen():
                await self._listen()
            case Report():
                return Snapshot() if self._server is None else self._server.snapshot()
            case Drain():
                self.over.set()
        return None

    async def drain(self) -> None:
        """Finishes the calls in progress and stops."""
        if self._server is not None:
            await self._server.drain()

    async def _listen(self) -> None:
        assert self._start is not None
        server = PolicyServer(self._start.config, self._policies)
        await server.start()
        self._server = server
        gc.freeze()
