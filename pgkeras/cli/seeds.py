"""``pgkeras train --seeds``: one run per seed, each in a separate process, with a common display."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import click

from pgkeras.cli.background import failure_of, held, prepare, start, stopped_by_signals
from pgkeras.cli.compare import compared, lines
from pgkeras.cli.numbers import counted, shown
from pgkeras.cli.resuming import resume_hint
from pgkeras.cores import available
from pgkeras.errors import PgkerasError, RunError
from pgkeras.files import make_directory
from pgkeras.runs import directory as runs
from pgkeras.runs.groups import grouped
from pgkeras.settings.config import Config

__all__ = ["parse_seeds", "report", "train_seeds"]

_POLL_SECONDS = 0.5
_MAX_SEEDS = 1_000


def parse_seeds(text: str) -> list[int]:
    """Parses seeds such as ``0-4`` or ``0,3,7``.

    Raises:
        click.UsageError: The text is invalid.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not (last.isdecimal() and int(first) <= int(last))):
            raise click.UsageError(f"--seeds: expected something like 0-4 or 0,3,7, got {text!r}")
        if int(last or first) - int(first) >= _MAX_SEEDS:
            raise click.UsageError(f"--seeds: expected at most {_MAX_SEEDS} seeds, got {text!r}")
        seeds += range(int(first), int(last or first) + 1)
    if not seeds or len(set(seeds)) < len(seeds):
        raise click.UsageError(f"--seeds: expected different seeds, got {text!r}")
    return seeds


def train_seeds(config: Config, seeds: list[int], directory: Path, jobs: int | None) -> list[Path]:
    """Trains once per seed with the same settings.

    Args:
        config: The settings.
        seeds: The seeds.
        directory: Parent of the run directories ``seed-0`` and so on.
        jobs: Number of concurrent runs; None for the number of cores.

    Returns:
        The directories of the runs that did not fail. Failed runs are reported on standard error.

    Raises:
        RunError: The directory cannot be created, or already contains one of these runs.
        PgkerasError: All runs failed.
    """
    is_new = not directory.exists()
    make_directory(directory, "directory")
    at_once = min(len(seeds), jobs or available())
    every = {seed: _Run(replace(config, seed=seed), directory / f"seed-{seed}") for seed in seeds}
    for run in every.values():
        runs.check_directory(run.path)
    click.echo(
        f"Training {config.env_id} with {counted(len(seeds), 'seed')}, {at_once} at once, in {directory}.", err=True
    )
    try:
        with stopped_by_signals():
            prepare()
            _show(every, at_once)
    except KeyboardInterrupt:
        if not all(run.is_waiting for run in every.values()):
            click.echo("Stopping: running trainings end, and those that have not started are dropped.", err=True)
        _end(every.values())
        for run in every.values():
            if run.can_resume:
                click.echo(resume_hint(run.path), err=True)
        raise
    finally:
        _end(every.values())
        if is_new:
            with contextlib.suppress(OSError):  # not empty
                directory.rmdir()
    errors = {seed: run.failure for seed, run in every.items() if run.failure is not None}
    for seed, error in errors.items():
        click.echo(f"seed {seed} failed: {error}", err=True)
    if len(errors) == len(seeds):
        raise PgkerasError(f"all {len(seeds)} runs failed; the first: {next(iter(errors.values()))}")
    return [run.path for seed, run in every.items() if seed not in errors]


def _end(every: Iterable[_Run]) -> None:
    """Interrupts all running runs, and waits for their ends."""
    for stop in (_Run.interrupt, _Run.wait):
        for run in every:
            stop(run)


class _Run:
    """A run that is started in a separate process.

    Args:
        config: The run's settings.
        path: The run directory.
    """

    def __init__(self, config: Config, path: Path) -> None:
        self._config, self.path = config, path
        self._process: BaseProcess | None = None

    def begin(self) -> None:
        """Starts the process."""
        with held():
            self._process = start(self._config, self.path)

    def interrupt(self) -> None:
        """Interrupts the run gracefully, if it has been started."""
        if self._process is not None:
            self._process.terminate()

    def wait(self) -> None:
        """Waits for the end of the run, if it has been started."""
        if self._process is not None:
            self._process.join()

    @property
    def is_waiting(self) -> bool:
        """Whether the run has not been started."""
        return self._process is None

    @property
    def is_over(self) -> bool:
        """Whether the process has ended."""
        return self._process is not None and self._process.exitcode is not None

    @property
    def can_resume(self) -> bool:
        """Whether the run was interrupted after its first epoch."""
        return runs.read_last_epoch(self.path) is not None and runs.read_summary(self.path)["stop_reason"] is None

    @property
    def failure(self) -> str | None:
        """The reason of a failure, or None."""
        if self._process is None or not self._process.exitcode:
            return None
        return failure_of(self.path, self._process.exitcode)


def report(finished: list[Path]) -> Path:
    """Prints the results of runs, and returns the directory of the best one.

    Raises:
        RunError: No run has finished an epoch.
    """
    begun = [run for run in finished if runs.read_last_epoch(run) is not None]
    for run in finished:
        if run not in begun:
            click.echo(f"{run}: no finished epoch", err=True)
    if not begun:
        raise RunError("no run has finished an epoch; allow more time, or use smaller batches")
    for line in lines(compared(grouped([(None, run) for run in begun], "env_id"))):
        click.echo(line)
    best = max(begun, key=_score)
    what = "last 100 episodes" if runs.read_summary(best)["best"] is None else "best evaluation"
    click.echo(f"Best: {best} ({what}: {shown(_score(best))})")
    return best


def _score(run: Path) -> float:
    summary = runs.read_summary(run)
    best = summary["best"]
    return float(summary["mean_return_100"] if best is None else best["score"])


def _show(every: dict[int, _Run], at_once: int) -> None:
    """Starts the runs one by one, and shows their progress: a table in a terminal, otherwise a line per ended run."""
    told: set[int] = set()
    with _display() as display:
        while True:
            under_way = sum(not (run.is_waiting or run.is_over) for run in every.values())
            for run in [run for run in every.values() if run.is_waiting][: at_once - under_way]:
                run.begin()
            over = {seed for seed, run in every.items() if run.is_over}
            if display is not None:
                display.update(_table(every))
            else:
                for seed in sorted(over - told):
                    click.echo(f"seed {seed}: {_state(every[seed])[-1]}", err=True)
                told = over
            if len(over) == len(every):
                return
            time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def _display() -> Iterator[Any]:
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=4) as live:
        yield live


def _table(every: dict[int, _Run]) -> Any:
    from rich.table import Table

    table = Table("seed", "epoch", "steps", "return, last 100", "state")
    for seed, run in every.items():
        table.add_row(str(seed), *_state(run))
    return table


def _state(run: _Run) -> tuple[str, str, str, str]:
    """Returns epoch, steps, return and state of a run, as text."""
    last = runs.read_last_epoch(run.path)
    state = "waiting" if run.is_waiting else "training" if not run.is_over else "failed" if run.failure else "ended"
    if last is None:
        return "", "", "", f"{state} before the end of the first epoch" if state == "ended" else state
    figures = f"{last['epoch']:,.0f}", f"{last['env_steps']:,.0f}", shown(last["mean_return_100"])
    if state == "ended":
        reason = runs.read_summary(run.path)["stop_reason"]
        state = f"{figures[2]} after {figures[1]} steps ({reason})"
    return *figures, state
