"""Progress of training on standard error: a bar in a terminal, a line a second elsewhere."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

from pgkeras.runs.training import EpochMetrics, Training

__all__ = ["Interruption", "interruptible", "show"]


def show(training: Training) -> Iterator[EpochMetrics]:
    """Trains, showing each epoch as it passes by."""
    return _bar(training) if sys.stderr.isatty() else _lines(training)


class Interruption:
    """Whether somebody asked the command to stop."""

    signal: int | None = None


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Turns the first SIGINT or SIGTERM into a request, so that the epoch under way ends well; a second one kills."""
    interruption = Interruption()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def request(number: int, _frame: FrameType | None) -> None:
        interruption.signal = number
        restore()

    for number in before:
        signal.signal(number, request)
    try:
        yield interruption
    finally:
        restore()


def _lines(training: Training) -> Iterator[EpochMetrics]:
    metrics = shown = None
    due = 0.0
    for metrics in training:
        if time.monotonic() >= due:
            click.echo(_line(metrics, training), err=True)
            shown, due = metrics, time.monotonic() + 1
        yield metrics
    if metrics is not None and metrics is not shown:
        click.echo(_line(metrics, training), err=True)


def _line(metrics: EpochMetrics, training: Training) -> str:
    best = f"  best evaluation {training.best.score:.1f}" if training.best is not None else ""
    return (
        f"epoch {metrics.epoch:,}  steps {metrics.env_steps:,}  return {metrics.return_mean:.1f}"
        f"  last 100 {metrics.mean_return_100:.1f}{best}  {metrics.steps_per_second:,.0f} steps/s"
    )


def _bar(training: Training) -> Iterator[EpochMetrics]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    def columns() -> Iterator[Any]:
        yield TextColumn("[bold]{task.description}")
        yield BarColumn()
        yield MofNCompleteColumn()
        yield TextColumn("steps")
        yield TextColumn("[cyan]{task.fields[goal]}")
        yield TextColumn("[dim]{task.fields[speed]}")
        yield TimeElapsedColumn()

    config = training.config
    with Progress(*columns(), console=Console(stderr=True), refresh_per_second=10) as progress:
        task = progress.add_task(config.env_id, total=config.steps, completed=training.env_steps, goal="", speed="")
        wanted = f" of {training.stop_return:g}" if training.stop_return is not None else ""
        for metrics in training:
            best = f", best {training.best.score:.1f}" if training.best is not None else ""
            progress.update(
                task,
                completed=min(metrics.env_steps, config.steps),
                goal=f"return {metrics.mean_return_100:.1f}{wanted}{best}",
                speed=f"{metrics.steps_per_second:,.0f} steps/s",
            )
            yield metrics
