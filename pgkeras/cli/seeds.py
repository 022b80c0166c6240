"""``pgkeras train --seeds``: one run a seed, each in a process of its own, and one display of all."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from pgkeras.cli.background import stopped_by_signals, train
from pgkeras.cli.compare import compared, lines
from pgkeras.cli.numbers import shown
from pgkeras.cores import available
from pgkeras.errors import PgkerasError
from pgkeras.runs import directory as runs
from pgkeras.runs.groups import grouped
from pgkeras.settings.config import Config

__all__ = ["parse_seeds", "report", "train_seeds"]

_LOOK_SECONDS = 0.5
_MOST_SEEDS = 1_000


def parse_seeds(text: str) -> list[int]:
    """The seeds that a text names, such as ``0-4`` or ``0,3,7``.

    Raises:
        click.UsageError: It names none.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise click.UsageError(f"--seeds: expected something like 0-4 or 0,3,7, got {text!r}")
        if int(last or first) - int(first) >= _MOST_SEEDS:
            raise click.UsageError(f"--seeds: at most {_MOST_SEEDS} of them, got {text!r}")
        seeds += range(int(first), int(last or first) + 1)
    if not seeds or len(set(seeds)) < len(seeds):
        raise click.UsageError(f"--seeds: expected every seed once, got {text!r}")
    return seeds


def train_seeds(config: Config, seeds: list[int], directory: Path, jobs: int | None) -> list[Path]:
    """Trains by the same settings with several seeds.

    Args:
        config: The settings.
        seeds: The seeds.
        directory: The runs' directories go into it, ``seed-0`` and so on.
        jobs: How many run at once; None for as many as there are cores.

    Returns:
        The directories of the runs that came to their end.

    Raises:
        PgkerasError: All of them failed; the others are reported.
    """
    at_once = min(len(seeds), jobs or available())
    paths = {seed: directory / f"seed-{seed}" for seed in seeds}
    for path in paths.values():
        runs.check_directory(path)
    click.echo(f"Training {config.env_id} with {len(seeds)} seeds, {at_once} at once, in {directory}.", err=True)
    context = multiprocessing.get_context("spawn")  # TensorFlow must not be forked
    with ProcessPoolExecutor(at_once, context, _ignore_interrupts) as pool:
        futures = {
            seed: pool.submit(train, replace(config, seed=seed).to_json(), str(path)) for seed, path in paths.items()
        }
        try:
            with stopped_by_signals():
                _show(futures, paths)
        except KeyboardInterrupt:
            click.echo("Stopping: runs that have not begun are dropped, and the others end.", err=True)
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list((pool._processes or {}).values()):
                process.terminate()  # which a run takes as a wish to end well
            raise
    errors = {seed: error for seed, future in futures.items() if (error := future.exception()) is not None}
    for seed, error in errors.items():
        click.echo(f"seed {seed} failed: {error}", err=True)
    if len(errors) == len(seeds):
        raise PgkerasError(f"all {len(seeds)} runs failed; the first: {next(iter(errors.values()))}")
    return [path for seed, path in paths.items() if seed not in errors]


def report(finished: list[Path]) -> Path:
    """Tells what came of runs; returns the directory of the one that did best."""
    for line in lines(compared(grouped([(None, run) for run in finished], "env_id"))):
        click.echo(line)
    best = max(finished, key=_score)
    click.echo(f"Best: {best} ({shown(_score(best))})")
    return best


def _score(run: Path) -> float:
    summary = runs.read_summary(run)
    best = summary["best"]
    return float(summary["mean_return_100"] if best is None else best["score"])


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one acts on them


def _show(futures: dict[int, Future[None]], paths: dict[int, Path]) -> None:
    """Shows how far all runs are, until they are done: a table in a terminal, a line for each that ends elsewhere."""
    told: set[int] = set()
    with _display() as display:
        while True:
            pending = [seed for seed, future in futures.items() if not future.done()]
            if display is not None:
                display.update(_table(futures, paths))
            else:
                for seed in set(futures).difference(pending, told):
                    told.add(seed)
                    click.echo(f"seed {seed}: {_state(futures[seed], paths[seed])[-1]}", err=True)
            if not pending:
                return
            time.sleep(_LOOK_SECONDS)


@contextlib.contextmanager
def _display() -> Iterator[Any]:
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=4) as live:
        yield live


def _table(futures: dict[int, Future[None]], paths: dict[int, Path]) -> Any:
    from rich.table import Table

    table = Table("seed", "epoch", "steps", "return, last 100", "state")
    for seed, future in futures.items():
        table.add_row(str(seed), *_state(future, paths[seed]))
    return table


def _state(future: Future[None], path: Path) -> tuple[str, str, str, str]:
    """Epoch, steps, return and state of a run, in words."""
    last = runs.read_last_epoch(path)
    if last is None:
        failed = future.done() and future.exception() is not None
        return "", "", "", "failed" if failed else "training" if future.running() else "waiting"
    figures = f"{last['epoch']:,.0f}", f"{last['env_steps']:,.0f}", shown(last["mean_return_100"])
    if not future.done():
        return *figures, "training"
    if future.exception() is not None:
        return *figures, "failed"
    reason = runs.read_summary(path)["stop_reason"]
    return *figures, f"{figures[2]} after {figures[1]} steps ({reason})"
