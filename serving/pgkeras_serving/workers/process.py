"""WorkerProcess: the supervisor's handle of a worker."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import time
from typing import Any, Self

from pgkeras_serving.settings.config import ServerConfig
from pgkeras_serving.telemetry.snapshot import Snapshot
from pgkeras_serving.workers.channel import Channel
from pgkeras_serving.workers.commands import Start
from pgkeras_serving.workers.switch import Switch

__all__ = ["WorkerProcess"]


class WorkerProcess:
    """A running worker process; created by :meth:`start`.

    Attributes:
        number: The worker's number.
        listens: Whether it accepts calls.
        snapshot: Its last reported snapshot.
        reported: Time of its last report (``time.monotonic``).
    """

    def __init__(self, number: int, process: asyncio.subprocess.Process, channel: Channel) -> None:
        self.number = number
        self.listens = False
        self.snapshot = Snapshot()
        self.reported = self._began = time.monotonic()
        self._process = process
        self._channel = channel

    @classmethod
    async def start(cls, number: int, config: ServerConfig, switch: Switch) -> Self:
        """Starts a worker. It inherits only its end of a socket pair and the switch's file.

        Args:
            number: The worker's number.
            config: Its settings.
            switch: The switch.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            descriptors = theirs.fileno(), switch.file
            command = sys.executable, "-m", "pgkeras_serving.workers", str(theirs.fileno())
            process = await asyncio.create_subprocess_exec(*command, pass_fds=descriptors)
        worker = cls(number, process, await Channel.open(ours, _asks_nothing))
        await worker.ask(Start(config, number, switch.file))
        return worker

    @property
    def pid(self) -> int:
        """Its process ID."""
        return self._process.pid

    @property
    def age(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self._began

    @property
    def is_connected(self) -> bool:
        """Whether its channel is open."""
        return self._channel.is_open

    async def ask(self, question: Any) -> Any:
        """See :meth:`pgkeras_serving.workers.channel.Channel.ask`."""
        return await self._channel.ask(question)

    async def ended(self) -> str:
        """Waits for its end, and returns a description of how it ended."""
        status = await self._process.wait()
        if status >= 0:
            return f"with exit status {status}"
        names = {number.value: number.name for number in signal.Signals}  # real-time signals have no name
        return f"by signal {names.get(-status, -status)}"

    def kill(self) -> None:
        """Kills the process."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()


async def _asks_nothing(question: Any) -> None:
    raise AssertionError(f"a worker has sent the request {question!r}, but workers send none")
