"""Progress of training on standard error: a bar in a terminal, otherwise lines."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

from pgkeras.cli.numbers import shown
from pgkeras.runs.stopping import share_of_limits
from pgkeras.runs.training import EpochMetrics, Training

__all__ = ["Interruption", "interruptible", "show"]

# Interval of progress lines within a long epoch, without a terminal.
_TELL_SECONDS = 5.0


def show(training: Training) -> Iterator[EpochMetrics]:
    """Trains and shows each epoch."""
    return _bar(training) if sys.stderr.isatty() else _lines(training)


class Interruption:
    """The signal that interrupted the command, or None."""

    signal: int | None = None


@contextmanager
def interruptible(interrupt: Callable[[], None]) -> Iterator[Interruption]:
    """Context in which the first SIGINT or SIGTERM calls ``interrupt`` for a graceful end, and a second one kills.

    This also applies if the signals were ignored before, as in background processes of a shell.
    """
    interruption = Interruption()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    at_once: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def request(number: int, _frame: FrameType | None) -> None:
        interruption.signal = number
        for each, handler in before.items():
            signal.signal(each, at_once[each] if handler is signal.SIG_IGN else handler)
        interrupt()
        # Without click, because the signal may have interrupted one of its writes.
        os.write(2, b"\nStopping: the policy of the last finished epoch is kept. Interrupt again to exit at once.\n")

    for number in before:
        signal.signal(number, request)
    try:
        yield interruption
    finally:
        restore()


def _lines(training: Training) -> Iterator[EpochMetrics]:
    metrics = last = None
    due = 0.0

    def within(steps: int, episodes: int, wanted: int) -> None:
        nonlocal due
        took = time.monotonic() - began
        if took >= _TELL_SECONDS and time.monotonic() >= due:
            due = time.monotonic() + _TELL_SECONDS
            click.echo(
                f"epoch {training.epoch + 1:,}  {steps:,} steps, {episodes:,} of {wanted:,} episodes  "
                f"{steps / took:,.0f} steps/s",
                err=True,
            )

    training.on_progress = within
    began = time.monotonic()
    for metrics in training:
        if time.monotonic() >= due:
            click.echo(_line(metrics, training), err=True)
            last, due = metrics, time.monotonic() + 1
        yield metrics
        began = time.monotonic()
    if metrics is not None and metrics is not last:
        click.echo(_line(metrics, training), err=True)


def _line(metrics: EpochMetrics, training: Training) -> str:
    best = f"  best evaluation {shown(training.best.score)}" if training.best is not None else ""
    return (
        f"epoch {metrics.epoch:,}  steps {metrics.env_steps:,}  return {shown(metrics.return_mean)}"
        f"  last 100 {shown(metrics.mean_return_100)}{best}  {metrics.steps_per_second:,.0f} steps/s"
    )


def _bar(training: Training) -> Iterator[EpochMetrics]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    def columns() -> Iterator[Any]:
        yield TextColumn("[bold]{task.description}")
        yield BarColumn()
        yield TaskProgressColumn()
        yield TextColumn("{task.fields[steps]} steps")
        yield TextColumn("[cyan]{task.fields[goal]}")
        yield TextColumn("[dim]{task.fields[speed]}")
        yield TimeElapsedColumn()

    config = training.config
    with Progress(*columns(), console=Console(stderr=True), refresh_per_second=10) as progress:
        task = progress.add_task(config.env_id, total=1.0, steps=f"{training.env_steps:,}", goal="", speed="")
        wanted = f" of {shown(training.stop_return)}" if training.stop_return is not None else ""
        began = time.monotonic()

        def within(steps: int, episodes: int, of: int) -> None:
            took = time.monotonic() - began
            done = training.env_steps + steps
            progress.update(task, completed=share_of_limits(config, done, training.seconds + took), steps=f"{done:,}")
            if took > 1.0:
                goal = f"epoch {training.epoch + 1:,}: {episodes:,} of {of:,} episodes"
                progress.update(task, goal=goal, speed=f"{steps / took:,.0f} steps/s")

        training.on_progress = within
        for metrics in training:
            best = f", best evaluation {shown(training.best.score)}" if training.best is not None else ""
            progress.update(
                task,
                completed=share_of_limits(config, metrics.env_steps, metrics.seconds),
                steps=f"{metrics.env_steps:,}",
                goal=f"return {shown(metrics.mean_return_100)}{wanted}{best}",
                speed=f"{metrics.steps_per_second:,.0f} steps/s",
            )
            yield metrics
            began = time.monotonic()
