"""Runs in processes of their own, followed by the files that they leave."""

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
    """Starts the process that runs are forked from on Linux, and waits until it has imported TensorFlow.

    A KeyboardInterrupt meanwhile ends that process.
    """
    context = _context()
    if not isinstance(context, ForkServerContext):
        return
    # It inherits the mask, so that Ctrl-C, which the terminal sends to it as well, waits for pgkeras.cli.preload to
    # ignore it. Here it waits until the process can be ended. The resource tracker is started first, as that unblocks
    # the signal.
    resource_tracker.ensure_running()
    first = context.Process(target=_nothing)
    # In a thread, as a KeyboardInterrupt within start would leave a process behind that nobody knows of.
    starting = threading.Thread(target=_start_first, args=(first,), name="pgkeras-fork-server")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
        starting.start()
        with stage("Importing TensorFlow"):
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            starting.join()
    except KeyboardInterrupt:
        with contextlib.suppress(ProcessLookupError):  # there is no public way to end it
            os.kill(getattr(forkserver, "_forkserver")._forkserver_pid, signal.SIGKILL)  # noqa: B009
        starting.join()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if first.pid is not None:
        first.join()


def _start_first(process: BaseProcess) -> None:
    with contextlib.suppress(EOFError, OSError):  # the process that it is forked from has been ended
        process.start()


def _nothing() -> None:
    """Runs in the first process."""


def start(config: Config, directory: Path) -> BaseProcess:
    """Starts a run in a process of its own. SIGTERM has it end well; the terminal's Ctrl-C does not reach it.

    Args:
        config: Its settings.
        directory: Its directory; :func:`failure_of` says why it failed, if it did.
    """
    with contextlib.suppress(OSError):  # what cannot be a directory, the run itself finds out
        (directory / _FAILURE).unlink()  # of one that came to nothing here
    # Not a daemon, which could have no processes of its own for its environments.
    process = _context().Process(target=_run, args=(config.to_json(), str(directory)))
    process.start()
    return process


def _context() -> ForkServerContext | SpawnContext:
    """How processes are made.

    On Linux they are forked from one that has imported TensorFlow, which takes seconds, and done nothing with it: it
    must not be forked once it computes. Elsewhere each imports it anew, as forking is unsafe there or does not exist.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pgkeras.cli.preload"])
    return context


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """In the body, SIGINT and SIGTERM raise KeyboardInterrupt of their number, also where they were ignored before."""

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
    """In the body, SIGINT and SIGTERM wait until it is done, so that a process that it starts is known."""
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
    """Why a run failed whose process has ended with this status, other than 0."""
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one acts on it
    failure = Path(directory).absolute() / _FAILURE  # an environment may change the working directory
    try:
        _train(settings, directory)
    except PgkerasError as error:
        failure.parent.mkdir(parents=True, exist_ok=True)
        failure.write_text(str(error), encoding="utf-8")
        raise SystemExit(1) from error
