"""Runs in processes of their own, followed by the files that they leave."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NoReturn

from pgkeras.errors import PgkerasError
from pgkeras.settings.config import Config

__all__ = ["FAILURE", "start", "stopped_by_signals", "train"]

FAILURE = "failure.txt"
"""The file in a run's directory that says why it failed."""


def start(config: Config, directory: Path) -> BaseProcess:
    """Starts a run in a process of its own. SIGTERM has it end well; the terminal's Ctrl-C does not reach it.

    Args:
        config: Its settings.
        directory: Its directory; :data:`FAILURE` in it says why it failed, if it did.
    """
    context = multiprocessing.get_context("spawn")  # TensorFlow must not be forked
    process = context.Process(target=_run, args=(config.to_json(), str(directory)), daemon=True)
    process.start()
    return process


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """In the body, SIGINT and SIGTERM raise KeyboardInterrupt, also where whoever started the command ignores them."""

    def stop(*_: Any) -> NoReturn:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train(settings: dict[str, Any], directory: str) -> None:
    """Trains in this process, without a word.

    Raises:
        PgkerasError: See :class:`pgkeras.runs.training.Training`.
    """
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
    try:
        train(settings, directory)
    except PgkerasError as error:
        Path(directory).mkdir(parents=True, exist_ok=True)
        (Path(directory) / FAILURE).write_text(str(error), encoding="utf-8")
        raise SystemExit(1) from error
