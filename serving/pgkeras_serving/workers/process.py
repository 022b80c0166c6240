"""WorkerProcess: one worker as its supervisor sees it."""

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
    """A process that has been started; made by :meth:`start`.

    Attributes:
        number: Which of the workers it is.
        listens: Whether it takes calls.
        snapshot: The last that it has told of itself.
        told: When that was, by time.monotonic.
    """

    def __init__(self, number: int, process: asyncio.subprocess.Process, channel: Channel) -> None:
        self.number = number
        self.listens = False
        self.snapshot = Snapshot()
        self.told = self._began = time.monotonic()
        self._process = process
        self._channel = channel

    @classmethod
    async def start(cls, number: int, config: ServerConfig, switch: Switch) -> Self:
        """Starts one. It inherits nothing but its end of a pair of sockets and the switch.

        Args:
            number: Which of the workers it is.
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
        """The number of its process."""
        return self._process.pid

    @property
    def age(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self._began

    @property
    def is_connected(self) -> bool:
        """Whether it can be asked."""
        return self._channel.is_open

    async def ask(self, question: Any) -> Any:
        """See :meth:`pgkeras_serving.workers.channel.Channel.ask`."""
        return await self._channel.ask(question)

    async def ended(self) -> str:
        """Waits for its end; returns how it ended, in words."""
        status = await self._process.wait()
        if status >= 0:
            return f"with exit status {status}"
        names = {number.value: number.name for number in signal.Signals}  # real-time signals have none
        return f"by signal {names.get(-status, -status)}"

    def kill(self) -> None:
        """Ends it at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()


async def _asks_nothing(question: Any) -> None:
    raise AssertionError(f"a worker asks nothing, but has asked {question!r}")
