"""Metrics as a table and as TensorBoard scalars: the same numbers as the JSON lines, also after a resume."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

import pytest

from pgkeras.errors import RunError
from pgkeras.files import Lines
from pgkeras.runs import directory as runs
from pgkeras.runs.loggers.table import CSV, CsvLogger
from pgkeras.runs.training import Training
from tests.runs.small import run_to_end, small

SETTINGS = {"loggers": ("csv", "tensorboard"), "evaluation_every": 3, "evaluation_episodes": 2}


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped beyond its last checkpoint, and resumed from the one before."""
    run = tmp_path_factory.mktemp("logged") / "run"
    first = Training(small(**SETTINGS), run)
    list(itertools.islice(first, 5))
    first.finish()
    run_to_end(Training(small(**SETTINGS), run, resume=True, checkpoint="4"))
    return run


def test_the_table_has_the_same_numbers(resumed: Path) -> None:
    with (resumed / CSV).open(newline="") as file:
        rows = list(csv.DictReader(file))
    metrics = runs.read_metrics(resumed)
    assert [int(row["epoch"]) for row in rows] == list(range(1, len(metrics) + 1))
    for row, line in zip(rows, metrics, strict=True):
        assert {k: float(v) for k, v in row.items() if v} == {k: v for k, v in line.items() if v is not None}
    # A metric that began later has a column all the same, empty before.
    assert [bool(row["evaluation_greedy"]) for row in rows][:4] == [False, False, True, False]


def test_tensorboard_has_the_same_scalars(resumed: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(resumed))
    events.Reload()
    metrics = runs.read_metrics(resumed)
    # What was written after the checkpoint has been replaced, not doubled.
    for name in ("return_mean", "evaluation_greedy", "loss", "epoch"):
        expected = [(line["env_steps"], line[name]) for line in metrics if line.get(name) is not None]
        got = [(event.step, event.value) for event in events.Scalars(name)]
        assert [step for step, _ in got] == [step for step, _ in expected]
        assert [value for _, value in got] == pytest.approx([value for _, value in expected], rel=1e-6)
    assert set(events.Tags()["scalars"]) == {k for line in metrics for k, v in line.items() if v is not None}


@pytest.mark.parametrize(
    ("loggers", "table", "events"),
    [("none", False, False), ((), False, False), ("csv", True, False), ("tensorboard", False, True)],
)
def test_the_setting_chooses(tmp_path: Path, loggers: Any, table: bool, events: bool) -> None:
    run_to_end(Training(small(loggers=loggers, steps=1), tmp_path / "run"))
    assert (tmp_path / "run" / CSV).exists() == table
    assert bool(list((tmp_path / "run").glob("events.*"))) == events
    assert len(runs.read_metrics(tmp_path / "run")) == 1


def test_a_row_that_was_cut_off_is_dropped(tmp_path: Path) -> None:
    logger = CsvLogger(tmp_path)
    for epoch in (1, 2, 3):
        logger.write({"epoch": epoch, "env_steps": 10 * epoch, "loss": None if epoch == 2 else 0.5})
    logger.close()
    text = (tmp_path / CSV).read_text()
    assert text == "epoch,env_steps,loss\n1,10,0.5\n2,20,\n3,30,0.5\n"
    (tmp_path / CSV).write_text(text[:-5])
    again = CsvLogger(tmp_path)
    again.forget_after(3, 30)
    again.write({"epoch": 3, "env_steps": 30, "loss": 0.25, "mine": 7.0})
    again.close()
    assert (tmp_path / CSV).read_text() == "epoch,env_steps,loss,mine\n1,10,0.5,\n2,20,,\n3,30,0.25,7.0\n"


def test_a_line_that_the_disk_does_not_take_leaves_nothing(tmp_path: Path) -> None:
    import resource
    import signal

    lines = Lines(tmp_path / "log")
    lines.append("a whole line")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler: Any = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
    try:
        with pytest.raises(RunError, match=r"cannot write .*log"):
            lines.append("one that is too long for what is left")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    lines.append("another")
    lines.close()
    assert (tmp_path / "log").read_text() == "a whole line\nanother\n"
