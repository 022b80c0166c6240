"""Supervisor: starts workers, keeps their policies in sync, and restarts workers that have ended."""

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

_REPORT_SECONDS = 1.0
_SILENT_SECONDS = 30.0
# A worker that ends sooner than this is restarted after a delay, which doubles each time.
_SHORT_LIFE_SECONDS = 10.0
_DELAY_SECONDS, _MAX_DELAY_SECONDS = 0.5, 30.0
_AGREEMENT_SECONDS = 0.1
_ROUNDS = 3
_LATE_SECONDS = 5.0


class Supervisor:
    """Keeps workers running. It answers no calls itself.

    Args:
        config: The server's settings.

    Raises:
        ConfigError: The address cannot be used, or the token file is invalid.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._switch = Switch.make()
        self._workers: dict[int, WorkerProcess] = {}
        self._ended = Snapshot()
        self._restarts = 0
        self._generation = 0
        self._agreed = asyncio.Lock()
        self._agreement = Agreement()
        self._is_stopping = False
        self._restarting: set[asyncio.Task[None]] = set()
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
        # Created last, because nothing would remove it if an earlier line raised an error.
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
        """Returns the sum over all workers, including those that have ended, as of their last reports."""
        listening = [worker.snapshot for worker in self._workers.values() if worker.listens]
        return merged(listening, [self._ended], self._restarts)

    async def start(self) -> None:
        """Starts the workers. They accept calls after all of them have loaded and warmed up the policies.

        Raises:
            BundleError: There is no policy that can be served.
            ConfigError: See :class:`pgkeras_serving.server.PolicyServer`.
            WorkerLostError: All workers have ended.
        """
        if self.web is not None:
            self.web.target = self.target
            await self.web.start()
        numbers = range(1, self._config.workers_wanted + 1)
        try:
            async with asyncio.TaskGroup() as group:
                for number in numbers:
                    group.create_task(self._spawn(number))
        except ExceptionGroup as errors:  # the first error has canceled the other tasks
            raise errors.exceptions[0] from None
        while not await self._agree():
            if not any(worker.is_connected for worker in self._workers.values()):  # none is restarted yet
                raise WorkerLostError("all workers ended while they were starting; their log says why")
            await asyncio.sleep(_AGREEMENT_SECONDS)
        if self._config.listen is not None:
            with socket_file(self._config.listen, int(self._config.socket_mode, 8)) as path:
                await self._relay.start(path)
        await self._collect_reports()
        for worker in self._workers.values():
            self._watch(worker)

    async def keep(self) -> None:
        """Follows new versions and labels, and collects the workers' reports. Runs until canceled."""
        await asyncio.gather(
            _repeat(self._config.poll_seconds, self._follow), _repeat(_REPORT_SECONDS, self._collect_reports)
        )

    async def drain(self) -> None:
        """Drains every worker, and kills those that take too long."""
        self._is_stopping = True
        if self.web is not None:
            self.web.state = "draining"
        for task in self._restarting:
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
        """Starts a worker that loads the policies. It accepts calls once it agrees with the others."""
        config = dataclasses.replace(self._config, port=self._port, http_port=None)
        if self._sockets is not None:
            config = dataclasses.replace(config, listen=f"unix:{self._socket(number)}", socket_mode="600")
        worker = await WorkerProcess.start(number, config, self._switch)
        try:
            await worker.ask(Refresh(self._next_generation()))
        except BaseException:
            worker.kill()
            raise
        worker.reported = time.monotonic()  # it may have loaded policies for a long time
        self._workers[number] = worker
        return worker

    async def _agree(self) -> bool:
        """Lets all workers load new versions, and switches to them if they agree. Returns whether they do."""
        async with self._agreed:
            refresh = Refresh(self._next_generation())
            workers = list(self._workers.values())
            found = await asyncio.gather(*(worker.ask(refresh) for worker in workers), return_exceptions=True)
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
            self._switch.generation = refresh.generation
            for worker in workers:
                # A worker without policies would refuse calls that others answer.
                if not worker.listens and (digests.get(worker.number) or not any(digests.values())):
                    await self._activate(worker)
            return bool(digests)

    async def _activate(self, worker: WorkerProcess) -> None:
        """Lets a worker accept calls. If it cannot, it is killed; before any restart, the error is raised instead."""
        try:
            await worker.ask(Listen())
            worker.listens = True
            worker.reported = time.monotonic()  # it was not asked while the first workers waited for each other
        except WorkerLostError:
            pass  # another worker is started
        except PgkerasError as error:
            if not self._restarts:
                raise
            logger.error("worker %d cannot take calls: %s", worker.number, error)
            worker.kill()

    async def _follow(self) -> None:
        for _ in range(_ROUNDS):  # the directory may change during a round
            if await self._agree():
                break
            await asyncio.sleep(_AGREEMENT_SECONDS)

    async def _collect_reports(self) -> None:
        """Collects the workers' snapshots, and kills workers that have not replied for a long time."""

        async def collect(worker: WorkerProcess) -> None:
            with contextlib.suppress(WorkerLostError):
                worker.snapshot = await worker.ask(Report())
                worker.reported = time.monotonic()

        # Includes workers that do not accept calls yet, because all others wait for them before a switch.
        workers = list(self._workers.values())
        asked = [asyncio.create_task(collect(worker)) for worker in workers]
        if asked:
            await asyncio.wait(asked, timeout=_REPORT_SECONDS)
        for worker in workers:
            if time.monotonic() - worker.reported > _SILENT_SECONDS:
                logger.error("worker %d (process %d) hangs and is killed", worker.number, worker.pid)
                worker.kill()
        if self.web is not None and self.web.state == "loading" and self.snapshot().versions:
            self.web.state = "serving"  # stays so: loaded versions are never all dropped

    def _watch(self, worker: WorkerProcess, delay: float = _DELAY_SECONDS) -> None:
        task = asyncio.create_task(self._restart(worker, delay))
        self._restarting.add(task)
        task.add_done_callback(self._restarting.discard)

    async def _restart(self, worker: WorkerProcess, delay: float) -> None:
        """Waits for a worker's end, and starts another in its place."""
        how = await worker.ended()
        if self._is_stopping:
            return
        logger.error("worker %d (process %d) ended %s and is restarted", worker.number, worker.pid, how)
        del self._workers[worker.number]
        self._ended = merged([worker.snapshot, self._ended])
        self._restarts += 1
        if worker.age >= _SHORT_LIFE_SECONDS:
            delay = _DELAY_SECONDS
        else:
            await asyncio.sleep(delay)
            delay = min(_MAX_DELAY_SECONDS, 2 * delay)
        while True:
            try:
                another = await self._spawn(worker.number)
                break
            except (PgkerasError, OSError) as error:
                logger.error("worker %d does not start: %s; trying again in %g s", worker.number, error, delay)
                await asyncio.sleep(delay)
                delay = min(_MAX_DELAY_SECONDS, 2 * delay)
        self._watch(another, delay)
        await self._agree()

    def _next_generation(self) -> int:
        self._generation += 1
        return self._generation

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
    """Drains a worker and waits for its end, without a time limit."""
    with contextlib.suppress(WorkerLostError):
        await worker.ask(Drain())
    await worker.ended()


async def _repeat(seconds: float, work: Callable[[], Awaitable[None]]) -> NoReturn:
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Exception:  # the next attempt may succeed, and the loaded versions stay in service
            logger.exception("a periodic task of the supervisor failed")


@contextlib.asynccontextmanager
async def supervising(config: ServerConfig, stop: asyncio.Event) -> AsyncIterator[Supervisor]:
    """Starts workers, and drains them when the context ends.

    Args:
        config: The server's settings.
        stop: Interrupts the start when it is set. The body must check it.

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
    """Serves with several processes until SIGTERM, SIGINT or SIGHUP, then drains.

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
