"""Checkpoints: runs that are stopped, killed or diverge go on from them as if nothing had been."""

from __future__ import annotations

import functools
import importlib
import itertools
import multiprocessing
import os
import shutil
import signal
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pgkeras
from pgkeras.errors import ExportError, RunError, TrainingError
from pgkeras.files import LOCK
from pgkeras.runs import directory as runs
from pgkeras.runs.callbacks import Callback, Run
from pgkeras.runs.checkpoints import Checkpoints
from pgkeras.runs.metrics import EpochMetrics
from pgkeras.runs.training import Training
from pgkeras.settings.config import Config
from tests.runs.small import TIMES, assert_same_arrays, assert_same_state, run_to_end, small, without_times

EVALUATED = {"evaluation_every": 2, "evaluation_episodes": 3, "evaluation_mode": "both", "plateau_steps": 10**6}


@pytest.mark.parametrize("checkpoint_seconds", [0, 1e6])
def test_a_stopped_run_goes_on_as_if_undisturbed(
    undisturbed: Training, tmp_path: Path, checkpoint_seconds: float
) -> None:
    run = tmp_path / "run"
    first = Training(small(checkpoint_seconds=checkpoint_seconds), run)
    assert len(list(itertools.islice(first, 3))) == 3
    first.finish()
    resumed = run_to_end(Training(small(checkpoint_seconds=checkpoint_seconds), run, resume=True))
    assert_same_state(resumed, undisturbed)
    assert undisturbed.directory is not None
    expected = runs.read_metrics(undisturbed.directory.path)
    assert without_times(runs.read_metrics(run)) == without_times(expected)


def test_a_stopped_run_remembers_how_long_episodes_were(tmp_path: Path) -> None:
    config = small(batch_steps=200)
    undisturbed = run_to_end(Training(config))
    first = Training(config, tmp_path / "run")
    next(iter(first))
    first.finish()
    assert_same_state(run_to_end(Training(config, tmp_path / "run", resume=True)), undisturbed)


# Where a run kills itself: in a method, at its nth call, before or after it does its work.
KILLS = {
    "playing": ("pgkeras.environments.vector:VectorEnvironments.step", 100, "before"),
    "evaluating": ("pgkeras.evaluation:Evaluation.__init__", 3, "before"),
    "logging": ("pgkeras.runs:RunDirectory.write_epoch", 5, "after"),
    "writing a checkpoint": ("os:fsync", 12, "before"),
    "writing the best": ("pgkeras.runs.checkpoints:Checkpoints.write_best", 2, "after"),
}


def run_until_killed(config: Config, run: Path, where: tuple[str, int, str]) -> None:
    """Trains in a process of its own, and kills it there."""
    path, number, when = where
    module, _, names = path.partition(":")
    *owners, name = names.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    method, calls = getattr(owner, name), itertools.count(1)

    def deadly(*arguments: Any, **keywords: Any) -> Any:
        is_last = next(calls) == number
        result = method(*arguments, **keywords) if when == "after" else None
        if is_last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result if when == "after" else method(*arguments, **keywords)

    setattr(owner, name, deadly)
    list(Training(config, run))


def forkserver() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pgkeras.runs.training"])  # most of their time would go into imports
    return context


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that were killed, by where it hit them."""
    root = tmp_path_factory.mktemp("killed")
    processes = {}
    for i, where in enumerate(KILLS):
        arguments = small(**EVALUATED), root / str(i), KILLS[where]
        process = forkserver().Process(target=run_until_killed, args=arguments)
        process.start()
        processes[where] = process
    for where, process in processes.items():
        process.join(500)
        assert process.exitcode == -signal.SIGKILL, where
    return {where: root / str(i) for i, where in enumerate(KILLS)}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """What the killed runs should have become. Read only."""
    return run_to_end(Training(small(**EVALUATED), tmp_path_factory.mktemp("runs") / "evaluated"))


@pytest.mark.parametrize("where", KILLS)
def test_a_killed_run_goes_on_as_if_undisturbed(killed: dict[str, Path], evaluated: Training, where: str) -> None:
    run = killed[where]
    assert evaluated.directory is not None
    whole = evaluated.directory.path
    assert len(runs.read_metrics(run)) < evaluated.epoch  # it was killed in its midst
    resumed = Training(small(**EVALUATED), run, resume=True)
    assert 0 < resumed.epoch < evaluated.epoch
    run_to_end(resumed)
    assert_same_state(resumed, evaluated)
    # The logs have every epoch and evaluation once, whatever the killed process had written beyond its checkpoint.
    assert without_times(runs.read_metrics(run)) == without_times(runs.read_metrics(whole))
    assert runs.read_evaluations(run) == runs.read_evaluations(whole)
    for name in ("best", "last"):
        assert_same_arrays(Checkpoints(run, 2).read(name), Checkpoints(whole, 2).read(name))
    assert sorted(f.name for f in (run / "checkpoints").iterdir()) == sorted(
        f.name for f in (whole / "checkpoints").iterdir()
    )
    for a, b in zip(resumed.best.weights, evaluated.best.weights, strict=True):  # type: ignore[union-attr]
        np.testing.assert_array_equal(a, b)


def test_the_last_checkpoints_are_kept(tmp_path: Path) -> None:
    training = Training(small(keep_checkpoints=3, steps=10**9), tmp_path / "run")
    list(itertools.islice(training, 5))
    training.finish()
    checkpoints = Checkpoints(tmp_path / "run", 3)
    assert checkpoints.epochs() == [3, 4, 5]
    assert checkpoints.read()["counters"][0] == 5
    assert checkpoints.read("4")["counters"][0] == 4
    with pytest.raises(RunError, match=r"run has no checkpoint '2'; it has: 3, 4, 5"):
        checkpoints.read("2")
    with pytest.raises(RunError, match=r"has no checkpoint 'best'; .*--evaluation-every"):
        checkpoints.read("best")


def test_a_run_goes_on_from_an_older_checkpoint(undisturbed: Training, tmp_path: Path) -> None:
    run = tmp_path / "run"
    list(itertools.islice(Training(small(), run), 4))
    last = run / "checkpoints" / "epoch-00000004.npz"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(
        RunError, match=r"cannot read .*epoch-00000004\.npz: .*; go on .* --resume .*run --checkpoint 3$"
    ):
        Training(small(), run, resume=True)
    resumed = Training(small(), run, resume=True, checkpoint="3")
    assert resumed.epoch == 3
    assert_same_state(run_to_end(resumed), undisturbed)
    assert Checkpoints(run, 2).epochs() == [undisturbed.epoch - 1, undisturbed.epoch]


class LaterIsBetter(Callback):
    def on_epoch(self, training: Run, metrics: EpochMetrics) -> None:
        training.keep_best(float(metrics.epoch))


def test_the_best_policy_of_epochs_that_were_given_up_is_dropped(tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = run_to_end(Training(small(keep_checkpoints=9), run, callbacks=[LaterIsBetter()]))
    assert first.best is not None
    assert first.best.epoch == first.epoch > 3
    resumed = Training(small(keep_checkpoints=9, learning_rate=0.001), run, resume=True, checkpoint="3")
    assert resumed.best is None
    assert Checkpoints(run, 9).has_best, "nothing is lost before it goes on"
    next(iter(resumed))
    assert not Checkpoints(run, 9).has_best
    kept = run_to_end(Training(small(), tmp_path / "other", callbacks=[LaterIsBetter()]))
    again = Training(small(), tmp_path / "other", resume=True, checkpoint="best")
    assert (kept.best is not None, again.best is not None) == (True, True)


@pytest.mark.parametrize(("settings", "is_kept"), [({}, True), ({"learning_rate": 0.001}, False)])
def test_the_best_policy_is_of_epochs_that_are_played_again(
    settings: dict[str, Any], is_kept: bool, tmp_path: Path
) -> None:
    first = run_to_end(Training(small(steps=300, keep_checkpoints=9), tmp_path / "run", callbacks=[LaterIsBetter()]))
    checkpoints = Checkpoints(tmp_path / "run", 9)
    checkpoints.file().unlink()  # as if it had been killed before that was written
    resumed = Training(small(steps=300, keep_checkpoints=9, **settings), tmp_path / "run", resume=True)
    assert resumed.epoch == first.epoch - 1
    assert (resumed.best is not None) is is_kept


@pytest.mark.parametrize("missing", ["counters", "score"])  # as a damaged list of the archive's files would have it
def test_an_array_that_is_missing_is_named(missing: str, tmp_path: Path) -> None:
    training = run_to_end(Training(small(steps=100), tmp_path / "run", callbacks=[LaterIsBetter()]))
    assert training.directory is not None
    best = training.directory.checkpoints.read("best")
    training.directory.checkpoints.write_best({name: best[name] for name in best if name != missing})
    with pytest.raises(RunError, match=rf"cannot read .*best\.npz: it has no array '{missing}'; delete it"):
        Training(small(steps=100), tmp_path / "run", resume=True)


def test_copies_of_checkpoints_are_left_alone(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.write(3, {"a": np.ones(1)})
    copies = [checkpoints.path / name for name in ("epoch-00000003 (copy).npz", "epoch-before.npz")]
    for copy in copies:
        copy.write_bytes(checkpoints.file().read_bytes())
    checkpoints.write(4, {"a": np.ones(1)})
    checkpoints.forget_after(2)
    assert checkpoints.epochs() == []
    assert all(copy.exists() for copy in copies)


def test_a_checkpoint_read_twice_counts_once(tmp_path: Path) -> None:
    training = run_to_end(Training(small(steps=300), tmp_path / "run"))
    state, other = training._state(), Training(small(steps=300))
    other._restore(state)
    other._restore(state)
    assert_same_arrays(other._state(), state)


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    return data[:200] + bytes([data[200] ^ 1]) + data[201:]


def packed_otherwise(data: bytes) -> bytes:
    """The method of compression, in the first entry of the archive's directory, is one that zipfile does not know."""
    at = data.index(b"PK\x01\x02") + 10
    return data[:at] + bytes([99]) + data[at + 1 :]


@pytest.mark.parametrize(
    "spoil",
    [truncated, flipped, packed_otherwise, lambda _: b"", lambda _: b"nonsense", lambda data: b"PK" + data[2:40]],
)
def test_a_spoilt_checkpoint_is_named(undisturbed: Training, tmp_path: Path, spoil: Any) -> None:
    run, file = copied(undisturbed, tmp_path)
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(RunError, match=rf"{file.name}: .*; there is no older one"):
        Training(small(), run, resume=True)


def copied(training: Training, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of a run with its last checkpoint alone, and that checkpoint's file."""
    assert training.directory is not None
    source, run = training.directory.path, tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    last = training.directory.checkpoints.file().relative_to(source)
    for name in (runs.CONFIG, last):
        (run / name).write_bytes((source / name).read_bytes())
    return run, run / last


def test_a_checkpoint_of_another_network_is_named(undisturbed: Training, tmp_path: Path) -> None:
    run, _ = copied(undisturbed, tmp_path)
    for hidden in ((9,), (8, 8), ()):
        with pytest.raises(RunError, match="does not fit the run's settings"):
            Training(small(hidden=hidden), run, resume=True)
    assert runs.read_config(run)["config"]["hidden"] == [8]


def test_settings_given_at_a_resume_hold(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_to_end(Training(small(stop_return=10, steps=10**9, episodes=30), run))
    # Solved by a standard of 10; by one of 1e6 it is not, and goes on.
    assert not list(Training(small(stop_return=10, steps=10**9, episodes=30), run, resume=True))
    changed = small(stop_return=1e6, steps=10**9, episodes=30, learning_rate=0.125)
    resumed = Training(changed, run, resume=True)
    assert len(list(itertools.islice(resumed, 1))) == 1
    assert resumed.solved_at is None
    assert next(iter(resumed)).learning_rate == 0.125
    resumed.finish()
    assert Config.from_json(runs.read_config(run)["config"]) == changed


@pytest.mark.parametrize("optimizer", [pytest.param("sgd", marks=pytest.mark.slow), "adam"])
def test_a_diverging_run_fails_and_keeps_its_checkpoint(tmp_path: Path, optimizer: str) -> None:
    run = tmp_path / "run"
    first = Training(small(optimizer=optimizer, clip_norm=None), run)
    list(itertools.islice(first, 2))
    first.finish()
    before = Checkpoints(run, 1).read()
    diverging = Training(small(optimizer=optimizer, clip_norm=None, learning_rate=1e300, steps=10**9), run, resume=True)
    with pytest.raises(TrainingError, match=r"epoch \d+: .*learning_rate") as caught:
        run_to_end(diverging)
    diverging.finish()
    after = Checkpoints(run, 1).read()
    # The running mean is NaN for as long as there is none.
    assert all(np.isfinite(array).all() for name, array in after.items() if name != "running_mean")
    assert isinstance(caught.value, ArithmeticError)
    assert_same_arrays(after, before)
    # What is there can be gone on from.
    assert len(list(itertools.islice(Training(small(optimizer=optimizer, clip_norm=None), run, resume=True), 1))) == 1
    with pytest.raises(ExportError):
        diverging.export(tmp_path / "models")


def test_a_run_that_fails_at_once_has_a_checkpoint_too(tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        pgkeras.train(
            "CartPole-v1", out=tmp_path / "run", optimizer="sgd", learning_rate=1e300, clip_norm=None, steps=10**9
        )
    checkpoint = Checkpoints(tmp_path / "run", 1).read()
    assert checkpoint["counters"].tolist() == [0, 0, 0]
    # The policy's own six; the optimizer's learning rate, for one, is infinite in float32.
    assert all(np.isfinite(checkpoint[f"variable_{i}"]).all() for i in range(6))


def test_a_checkpoint_that_cannot_be_written_takes_nothing_else_with_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    training = Training(small(checkpoint_seconds=1e6), run)
    list(itertools.islice(training, 2))
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").write_text("no directory")
    with pytest.raises(RunError, match=r"cannot create .*checkpoints"):
        training.finish()
    assert runs.read_summary(run)["epochs"] == 2
    assert (run / runs.CURVE).exists()
    assert not (run / LOCK).exists()


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_run_that_is_killed_as_it_begins_is_resumed_or_begun_again(
    undisturbed: Training, tmp_path: Path, call: int
) -> None:
    process = forkserver().Process(target=run_until_killed, args=(small(), tmp_path, ("os:fsync", call, "before")))
    process.start()
    process.join(500)
    assert process.exitcode == -signal.SIGKILL
    again = Training(small(), tmp_path, resume=(tmp_path / runs.CONFIG).exists())
    assert again.epoch == 0
    assert_same_state(run_to_end(again), undisturbed)


def test_nothing_but_time_is_left_out_of_comparisons() -> None:
    assert set(pgkeras.runs.training.EpochMetrics.__dataclass_fields__) >= TIMES


def test_half_a_line_is_dropped_where_a_run_goes_on(tmp_path: Path) -> None:
    directory = runs.RunDirectory(tmp_path, 1)
    directory.write_config({"config": {}})
    for epoch in (1, 2):
        directory.write_epoch({"epoch": epoch, "env_steps": epoch})
    directory.close()
    with (tmp_path / runs.METRICS).open("a") as file:
        file.write('{"epoch": 3, "env')
    again = runs.RunDirectory(tmp_path, 1, resume=True)
    again.forget_after(1, 1)
    again.close()
    assert [line["epoch"] for line in runs.read_metrics(tmp_path)] == [1]
