"""Runs in separate processes, observed through the files that they write."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NoReturn

from pgkeras.cli.stages import stage
from pgkeras.errors import PgkerasError
from pgkeras.settings.config import Config

__all__ = ["failure_of", "held", "prepare", "start", "stopped_by_signals"]

_FAILURE = "failure.txt"


def prepare() -> None:
    """Starts the process from which runs are forked on Linux, and waits until it has imported TensorFlow.

    A KeyboardInterrupt during this time ends that process.
    """
    context = _context()
    if not isinstance(context, ForkServerContext):
        return
    # The terminal sends Ctrl-C to both processes. The fork server inherits the signal mask, so there the signal stays
    # blocked until pgkeras.cli.preload ignores it. Here it stays blocked until the fork server can be ended. The
    # resource tracker is started first, because its start unblocks the signal.
    resource_tracker.ensure_running()
    first = context.Process(target=_nothing)
    # In a thread, because a KeyboardInterrupt within start would leave an unknown process behind.
    starting = threading.Thread(target=_start_first, args=(first,), name="pgkeras-fork-server")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
        starting.start()
        with stage("Importing TensorFlow"):
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            starting.join()
    except KeyboardInterrupt:
        with contextlib.suppress(ProcessLookupError):  # multiprocessing has no public function to end it
            os.kill(getattr(forkserver, "_forkserver")._forkserver_pid, signal.SIGKILL)  # noqa: B009
        starting.join()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if first.pid is not None:
        first.join()


def _start_first(process: BaseProcess) -> None:
    with contextlib.suppress(EOFError, OSError):  # the fork server has been ended
        process.start()


def _nothing() -> None:
    """Does nothing; the target of the first process."""


def start(config: Config, directory: Path) -> BaseProcess:
    """Starts a run in a separate process. SIGTERM stops it gracefully; it ignores the terminal's Ctrl-C.

    Args:
        config: The run's settings.
        directory: The run directory; see :func:`failure_of` for the reason of a failure.
    """
    with contextlib.suppress(OSError):  # if the path cannot be a directory, the run reports it
        (directory / _FAILURE).unlink()  # left by an earlier run
    # Not a daemon, because daemons cannot start child processes for their environments.
    process = _context().Process(target=_run, args=(config.to_json(), str(directory)))
    process.start()
    return process


def _context() -> ForkServerContext | SpawnContext:
    """Returns the multiprocessing context.

    On Linux, processes are forked from one that has imported TensorFlow, which takes seconds, but has not used it:
    a process must not be forked after TensorFlow has computed. On other systems, where forking is unsafe or missing,
    each process imports TensorFlow itself.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pgkeras.cli.preload"])
    return context


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Context in which SIGINT and SIGTERM raise KeyboardInterrupt with their number, even if they were ignored."""

    def stop(number: int, _: Any) -> NoReturn:
        raise KeyboardInterrupt(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Context that delays SIGINT and SIGTERM to its end, so that a process started in it is never lost."""
    arrived: list[int] = []
    before = {n: signal.signal(n, lambda number, _: arrived.append(number)) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])


def failure_of(directory: Path, exit_status: int) -> str:
    """Returns why a run failed, given the nonzero exit status of its process."""
    file = directory / _FAILURE
    return file.read_text(encoding="utf-8") if file.exists() else f"exit status {exit_status}"


def _train(settings: dict[str, Any], directory: str) -> None:
    from pgkeras.cli.lean_imports import lean_imports
    from pgkeras.cli.native_output import quiet

    with quiet(), lean_imports():
        from pgkeras.runs.training import Training
    with quiet():
        training = Training(Config.from_json(settings), Path(directory))
    signal.signal(signal.SIGTERM, lambda *_: training.interrupt())
    with contextlib.ExitStack() as stack:
        stack.callback(training.finish)
        for _ in training:
            pass


def _run(settings: dict[str, Any], directory: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles it
    failure = Path(directory).absolute() / _FAILURE  # an environment may change the working directory
    try:
        _train(settings, directory)
    except PgkerasError as error:
        failure.parent.mkdir(parents=True, exist_ok=True)
        failure.write_text(str(error), encoding="utf-8")
        raise SystemExit(1) from error
