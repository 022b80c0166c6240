"""Supervisor: starts workers, has them serve the same at every moment, and starts those again that have ended."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NoReturn

from pgkeras.errors import PgkerasError
from pgkeras_serving.pages.web import Web
from pgkeras_serving.process import event_loop, stop_signal, unless_stopped, until_stopped
from pgkeras_serving.settings.config import ServerConfig
from pgkeras_serving.telemetry.snapshot import Snapshot, merged
from pgkeras_serving.transport.listener import address, reserve, socket_file
from pgkeras_serving.transport.tokens import Tokens
from pgkeras_serving.workers.agreement import Agreement
from pgkeras_serving.workers.channel import WorkerLostError
from pgkeras_serving.workers.commands import Digest, Drain, Listen, Refresh, Report
from pgkeras_serving.workers.process import WorkerProcess
from pgkeras_serving.workers.relay import Relay
from pgkeras_serving.workers.switch import Switch

__all__ = ["Supervisor", "run"]

logger = logging.getLogger(__name__)

_TELL_SECONDS = 1.0
_SILENT_SECONDS = 30.0
# A worker that ends sooner is started again after a rest, which doubles each time.
_SHORT_LIFE_SECONDS = 10.0
_REST_SECONDS, _MOST_REST_SECONDS = 0.5, 30.0
_AGREEMENT_SECONDS = 0.1
_LOOKS = 3
_LATE_SECONDS = 5.0


class Supervisor:
    """Keeps workers running. It answers no calls itself.

    Args:
        config: The settings.

    Raises:
        ConfigError: The address cannot be listened on, or the tokens' file is of no use.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._switch = Switch.make()
        self._workers: dict[int, WorkerProcess] = {}
        self._ended = Snapshot()
        self._restarts = 0
        self._looks = 0
        self._agreed = asyncio.Lock()
        self._agreement = Agreement()
        self._is_stopping = False
        self._reviving: set[asyncio.Task[None]] = set()
        self._complaint = ""
        self._relay = Relay(self._listening_sockets)
        self._port = 0
        if config.listen is None:
            self._reserved = reserve(config)
            self._port = int(self._reserved.getsockname()[1])
        self.web: Web | None = None
        if config.http_port is not None:
            tokens = None if config.token_file is None else Tokens(config.token_file)
            self.web = Web(config, tokens, self.snapshot)
        # The last: nobody would remove it if one of the settings before were refused.
        self._sockets = Path(tempfile.mkdtemp(prefix="pgkeras-")) if config.listen is not None else None

    @property
    def target(self) -> str:
        """The address that the workers listen on, HOST:PORT or unix:PATH."""
        return address(self._config, self._port)

    @property
    def port(self) -> int:
        """The port that they listen on; 0 for a Unix-domain socket."""
        return self._port

    def snapshot(self) -> Snapshot:
        """What the workers have told within the last second, and those that have ended, summed up."""
        listening = [worker.snapshot for worker in self._workers.values() if worker.listens]
        return merged(listening, [self._ended], self._restarts)

    async def start(self) -> None:
        """Starts the workers; they take calls when all of them have loaded and warmed the policies.

        Raises:
            BundleError: There is no policy that can be served.
            ConfigError: See :class:`pgkeras_serving.server.PolicyServer`.
            WorkerLostError: All workers have ended meanwhile.
        """
        if self.web is not None:
            self.web.target = self.target
            await self.web.start()
        numbers = range(1, self._config.workers_wanted + 1)
        try:
            async with asyncio.TaskGroup() as group:
                for number in numbers:
                    group.create_task(self._spawn(number))
        except ExceptionGroup as errors:  # the first one has ended the others
            raise errors.exceptions[0] from None
        while not await self._agree():
            if not any(worker.is_connected for worker in self._workers.values()):  # until now nobody starts others
                raise WorkerLostError("all workers have ended while they started; what they wrote before says why")
            await asyncio.sleep(_AGREEMENT_SECONDS)
        if self._config.listen is not None:
            with socket_file(self._config.listen, int(self._config.socket_mode, 8)) as path:
                await self._relay.start(path)
        await self._tell()
        for worker in self._workers.values():
            self._watch(worker)

    async def keep(self) -> None:
        """Follows new versions and labels, and the workers' counters; without end."""
        await asyncio.gather(
            _again_and_again(self._config.poll_seconds, self._follow), _again_and_again(_TELL_SECONDS, self._tell)
        )

    async def drain(self) -> None:
        """Has every worker drain, and ends those that take too long."""
        self._is_stopping = True
        if self.web is not None:
            self.web.state = "draining"
        for task in self._reviving:
            task.cancel()
        workers = list(self._workers.values())
        limit = self._config.drain_delay_seconds + self._config.drain_seconds + _LATE_SECONDS
        ends = [asyncio.create_task(_end(worker)) for worker in workers]
        if ends:
            await asyncio.wait(ends, timeout=limit)
        self._relay.stop()
        for worker in workers:
            worker.kill()
        if self.web is not None:
            await self.web.stop()
        if self._sockets is not None:
            for file in self._sockets.iterdir():
                file.unlink()
            self._sockets.rmdir()

    async def _spawn(self, number: int) -> WorkerProcess:
        """A worker that has loaded the policies; it takes calls once it agrees with the others."""
        config = dataclasses.replace(self._config, port=self._port, http_port=None)
        if self._sockets is not None:
            config = dataclasses.replace(config, listen=f"unix:{self._socket(number)}", socket_mode="600")
        worker = await WorkerProcess.start(number, config, self._switch)
        try:
            await worker.ask(Refresh(self._next_look()))
        except BaseException:
            worker.kill()
            raise
        worker.told = time.monotonic()  # it has not been asked before, and may have loaded policies for long
        self._workers[number] = worker
        return worker

    async def _agree(self) -> bool:
        """Has all workers look for new versions, and go over to them if they agree; says whether."""
        async with self._agreed:
            look = Refresh(self._next_look())
            workers = list(self._workers.values())
            found = await asyncio.gather(*(worker.ask(look) for worker in workers), return_exceptions=True)
            digests: dict[int, Digest] = {}
            for worker, digest in zip(workers, found, strict=True):
                if isinstance(digest, WorkerLostError):
                    continue
                if isinstance(digest, BaseException):
                    self._complain(f"worker {worker.number} cannot follow the served directory: {digest}")
                    return False
                digests[worker.number] = digest
            if not self._agreement.reached(digests):
                return False
            difference = self._agreement.difference
            self._complain(difference and f"workers differ, and each serves what it has: {difference}")
            self._switch.generation = look.generation
            for worker in workers:
                # One that has nothing would refuse calls that others answer.
                if not worker.listens and (digests.get(worker.number) or not any(digests.values())):
                    await self._let_in(worker)
            return bool(digests)

    async def _let_in(self, worker: WorkerProcess) -> None:
        """Has a worker take calls. One that cannot is ended, but for the first ones: then there is no server."""
        try:
            await worker.ask(Listen())
            worker.listens = True
            worker.told = time.monotonic()  # nor has it been asked while the first ones waited for each other
        except WorkerLostError:
            pass  # another one is started
        except PgkerasError as error:
            if not self._restarts:
                raise
            logger.error("worker %d cannot take calls: %s", worker.number, error)
            worker.kill()

    async def _follow(self) -> None:
        for _ in range(_LOOKS):  # the directory may change while they look
            if await self._agree():
                break
            await asyncio.sleep(_AGREEMENT_SECONDS)

    async def _tell(self) -> None:
        """Takes every worker's snapshot, and ends those that have been silent for long."""

        async def tell(worker: WorkerProcess) -> None:
            with contextlib.suppress(WorkerLostError):
                worker.snapshot = await worker.ask(Report())
                worker.told = time.monotonic()

        # Those that do not take calls yet, too: all wait for them before they go over to another version.
        workers = list(self._workers.values())
        asked = [asyncio.create_task(tell(worker)) for worker in workers]
        if asked:
            await asyncio.wait(asked, timeout=_TELL_SECONDS)
        for worker in workers:
            if time.monotonic() - worker.told > _SILENT_SECONDS:
                logger.error("worker %d (process %d) has hung: it is ended", worker.number, worker.pid)
                worker.kill()
        if self.web is not None and self.web.state == "loading" and self.snapshot().versions:
            self.web.state = "serving"  # from now on: versions that are there stay

    def _watch(self, worker: WorkerProcess, rest: float = _REST_SECONDS) -> None:
        task = asyncio.create_task(self._revive(worker, rest))
        self._reviving.add(task)
        task.add_done_callback(self._reviving.discard)

    async def _revive(self, worker: WorkerProcess, rest: float) -> None:
        """Waits for a worker's end, and starts another in its place."""
        how = await worker.ended()
        if self._is_stopping:
            return
        logger.error("worker %d (process %d) ended %s; another is started", worker.number, worker.pid, how)
        del self._workers[worker.number]
        self._ended = merged([worker.snapshot, self._ended])
        self._restarts += 1
        if worker.age >= _SHORT_LIFE_SECONDS:
            rest = _REST_SECONDS
        else:
            await asyncio.sleep(rest)
            rest = min(_MOST_REST_SECONDS, 2 * rest)
        while True:
            try:
                another = await self._spawn(worker.number)
                break
            except (PgkerasError, OSError) as error:
                logger.error("worker %d does not start: %s; trying again in %g s", worker.number, error, rest)
                await asyncio.sleep(rest)
                rest = min(_MOST_REST_SECONDS, 2 * rest)
        self._watch(another, rest)
        await self._agree()

    def _next_look(self) -> int:
        self._looks += 1
        return self._looks

    def _complain(self, message: str) -> None:
        if message and message != self._complaint:
            logger.error("%s", message)
        self._complaint = message

    def _socket(self, number: int) -> Path:
        assert self._sockets is not None
        return self._sockets / str(number)

    def _listening_sockets(self) -> list[Path]:
        return [self._socket(number) for number, worker in self._workers.items() if worker.listens]


async def _end(worker: WorkerProcess) -> None:
    """Has a worker drain, and waits for its end; for ever if it has hung."""
    with contextlib.suppress(WorkerLostError):
        await worker.ask(Drain())
    await worker.ended()


async def _again_and_again(seconds: float, work: Callable[[], Awaitable[None]]) -> NoReturn:
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Exception:  # of any kind: the next time may fare better, and what is served stays
            logger.exception("following the workers failed")


@contextlib.asynccontextmanager
async def supervising(config: ServerConfig, stop: asyncio.Event) -> AsyncIterator[Supervisor]:
    """Starts workers, and drains them when the body is done.

    Args:
        config: The settings.
        stop: Breaks off the start when it is set; the body has to look at it.

    Raises:
        BundleError: There is no policy that can be served.
        ConfigError: See :class:`Supervisor`.
    """
    supervisor = Supervisor(config)
    try:
        await unless_stopped(supervisor.start(), stop)
        keeping = asyncio.create_task(supervisor.keep())
        yield supervisor
        keeping.cancel()
    finally:
        await supervisor.drain()


def run(config: ServerConfig) -> None:
    """Serves by several processes until SIGTERM, SIGINT or SIGHUP, then drains.

    Raises:
        BundleError: There is no policy that can be served.
        ConfigError: See :class:`Supervisor`.
    """
    with asyncio.Runner(loop_factory=event_loop) as runner:
        runner.run(_run(config))


async def _run(config: ServerConfig) -> None:
    stop = stop_signal()
    async with supervising(config, stop) as supervisor:
        if stop.is_set():
            return
        served = (version.description for version in supervisor.snapshot().versions)
        await until_stopped(config, supervisor, served, stop, f" by {config.workers_wanted} workers")
