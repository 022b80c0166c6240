"""Callbacks: when runs stop, what evaluations see, and which policy is exported."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pgkeras
from pgkeras import engines, environments
from pgkeras.bundle import bundle
from pgkeras.errors import EnvironmentStepError
from pgkeras.evaluation import EngineActor, evaluate
from pgkeras.runs import directory as runs
from pgkeras.runs.callbacks import Callback, Plateau, Publish
from pgkeras.runs.training import EpochMetrics, Training
from tests.runs.small import assert_same_state, run_to_end, small, without_times


def test_a_run_stops_once_it_has_its_steps(undisturbed: Training) -> None:
    assert undisturbed.directory is not None
    steps = [line["env_steps"] for line in runs.read_metrics(undisturbed.directory.path)]
    assert steps[-2] < 1500 <= steps[-1]
    assert undisturbed.finished
    assert undisturbed.summary()["stop_reason"] == "1,500 steps are done"
    assert not list(undisturbed)


def test_a_run_stops_at_its_time_limit() -> None:
    training = Training(small(time_limit=1e-6, steps=10**9))
    assert list(training) == []  # the epoch is dropped
    assert training.stop_reason == "1e-06 s of training are over"
    training = Training(small(time_limit=0.2, steps=10**9))
    for _ in training:
        assert training.finished == (training.seconds >= 0.2)
    assert training.stop_reason == "0.2 s of training are over"


@pytest.mark.parametrize(("steps", "time_limit"), [(10**9, 1.0), (3000, None), (3000, 1e9)])
def test_schedules_fall_to_the_limit_that_is_nearer(steps: int, time_limit: float | None) -> None:
    settings = {"learning_rate": 0.01, "learning_rate_schedule": "linear"}
    over = 0.0  # of the nearer limit, before the epoch
    for metrics in (training := Training(small(steps=steps, time_limit=time_limit, **settings))):
        assert metrics.learning_rate == pytest.approx(0.01 * (1 - over), rel=1e-5)
        over = metrics.seconds / time_limit if time_limit == 1.0 else metrics.env_steps / steps
    assert training.epoch > 2
    assert over > 0.5


def test_a_run_stops_when_a_hundred_episodes_reach_the_return() -> None:
    training = Training(small(stop_return=15, steps=10**9, episodes=30))
    metrics = list(training)
    # CartPole returns about 22 from the start; but the last hundred have to be a hundred.
    assert [m.episodes for m in metrics] == [30, 60, 90, 120]
    summary = training.summary()
    assert (summary["solved"], summary["steps_to_threshold"]) == (True, metrics[-1].env_steps)
    assert summary["seconds_to_threshold"] == pytest.approx(metrics[-1].seconds)
    assert "returned 15 or more" in summary["stop_reason"]


def test_a_run_stops_on_a_plateau() -> None:
    training = Training(small(plateau_steps=2000, learning_rate=1e-12, steps=10**6))
    metrics = list(training)
    assert training.stop_reason is not None
    assert "has not risen for 2,000 steps" in training.stop_reason
    # By the definition, from the metrics alone: the record is the highest mean of a whole hundred.
    record, record_at = -np.inf, 0
    for m in metrics[:-1]:
        if m.episodes < 100 or m.mean_return_100 > record:
            record, record_at = (m.mean_return_100 if m.episodes >= 100 else -np.inf), m.env_steps
        assert m.env_steps - record_at < 2000
    assert metrics[-1].mean_return_100 <= record
    assert metrics[-1].env_steps - record_at >= 2000


def test_a_plateau_goes_on_over_a_resume(tmp_path: Path) -> None:
    config = small(plateau_steps=2000, learning_rate=1e-12, steps=10**6)
    whole = run_to_end(Training(config))
    first = Training(config, tmp_path / "run")
    list(itertools.islice(first, 40))
    first.finish()
    resumed = Training(config, tmp_path / "run", resume=True)
    (plateau,) = [callback for callback in resumed._callbacks if isinstance(callback, Plateau)]
    assert plateau.state()["best"] > 0
    run_to_end(resumed)
    assert (resumed.epoch, resumed.stop_reason) == (whole.epoch, whole.stop_reason)


def test_what_is_published_does_not_depend_on_the_working_directory_nor_on_old_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Leave(Callback):
        def on_epoch(self, training: Training, metrics: EpochMetrics) -> None:
            monkeypatch.chdir("/")  # as an environment may

    monkeypatch.chdir(tmp_path)
    (tmp_path / "served" / "mine").mkdir(parents=True)
    (tmp_path / "served" / "mine" / "labels.json").write_text("{broken")
    publish = Publish(Path("served"), "mine", 0.0, keep=1)
    training = run_to_end(Training(small(steps=300), callbacks=[Leave(), publish]))
    assert training.epoch > 1
    assert publish.paths == [Path("served/mine") / str(1 + i) for i in range(training.epoch)]
    assert bundle.versions(tmp_path / "served" / "mine") == list(range(1, training.epoch + 1))
    assert "old versions stay: " in caplog.text


class Recorder(Callback):
    """Writes down when it is called; stops after ``epochs`` epochs."""

    def __init__(self, epochs: int = 10**9) -> None:
        self.calls: list[tuple[str, int]] = []
        self.epochs, self.seen = epochs, 0

    def on_start(self, training: Training) -> None:
        self.calls.append(("start", training.epoch))

    def on_epoch(self, training: Training, metrics: EpochMetrics) -> None:
        assert metrics.epoch == training.epoch
        self.calls.append(("epoch", metrics.epoch))
        self.seen += 1
        training.report(seen=self.seen)
        if self.seen == self.epochs:
            training.stop("I have seen enough")
            training.stop("and said so")

    def on_end(self, training: Training) -> None:
        training.evaluate(1)  # the environments are still there
        self.calls.append(("end", training.epoch))

    def state(self) -> dict[str, Any]:
        return {"seen": np.array(self.seen)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.seen = int(state["seen"])


def test_a_users_callback_is_called_in_order_and_stops_the_run(tmp_path: Path) -> None:
    recorder = Recorder(epochs=3)
    training = pgkeras.train("CartPole-v1", out=tmp_path / "run", callbacks=[recorder], envs=4, episodes=4, hidden=(8,))
    assert recorder.calls == [("start", 0), ("epoch", 1), ("epoch", 2), ("epoch", 3), ("end", 3)]
    assert training.summary()["stop_reason"] == "I have seen enough"
    assert [line["seen"] for line in runs.read_metrics(tmp_path / "run")] == [1, 2, 3]


def test_a_users_callback_remembers_over_a_resume(tmp_path: Path) -> None:
    run, callbacks = tmp_path / "run", [Recorder(), Recorder()]
    first = Training(small(), run, callbacks=callbacks)
    list(itertools.islice(first, 2))
    first.finish()
    again = [Recorder(epochs=5), Recorder(), Recorder()]
    resumed = run_to_end(Training(small(plateau_steps=10**6), run, callbacks=again, resume=True))
    assert resumed.epoch == 5
    assert [callback.seen for callback in again] == [5, 5, 3]  # the third is new
    assert again[0].calls[0] == ("start", 2)


def test_a_callback_that_raises_ends_the_run_in_order(tmp_path: Path) -> None:
    class Broken(Recorder):
        def on_epoch(self, training: Training, metrics: EpochMetrics) -> None:
            super().on_epoch(training, metrics)
            if metrics.epoch == 2:
                raise OSError("no more")

    recorder = Recorder()
    with pytest.raises(OSError, match="no more"):
        pgkeras.train("CartPole-v1", out=tmp_path / "run", callbacks=[Broken(), recorder], hidden=(8,), envs=2)
    assert recorder.calls[-1] == ("end", 2)
    # Its epoch has been: it is in the log and in the checkpoint.
    assert [line["seen"] for line in runs.read_metrics(tmp_path / "run")] == [1, 2]
    assert runs.read_summary(tmp_path / "run")["epochs"] == 2
    config = pgkeras.Config(env_id="CartPole-v1", envs=2, hidden=(8,), normalize_observations=False)  # as its preset
    resumed = Training(config, tmp_path / "run", resume=True)
    assert resumed.epoch == 2


@pytest.mark.parametrize("env_id", ["CartPole-v1", "tests.environments.scripted:Target-v0"])
@pytest.mark.parametrize("normalize", [pytest.param(False, marks=pytest.mark.slow), None])
def test_evaluations_do_not_disturb_training(env_id: str, normalize: bool) -> None:
    settings = {"envs": 4, "episodes": 6, "hidden": (8,), "steps": 600, "normalize_observations": normalize}
    plain = pgkeras.train(env_id, **settings)
    watched = pgkeras.train(
        env_id, **settings, evaluation_every=1, evaluation_mode="both", evaluation_episodes=5, callbacks=[Recorder()]
    )
    assert watched.best is not None
    a, b = plain._learner.state(), watched._learner.state()
    assert set(a) == set(b)
    for name, array in a.items():
        np.testing.assert_array_equal(array, b[name], name)


def test_evaluations_are_of_the_policy_as_it_is_on_seeds_of_their_own(tmp_path: Path) -> None:
    training = Training(small(evaluation_every=5, evaluation_mode="both", evaluation_episodes=5), tmp_path / "run")
    exported: dict[int, bundle.Bundle] = {}
    for metrics in training:
        assert ("evaluation_greedy" in metrics.reported) == (metrics.epoch % 5 == 0 or training.finished)
        if metrics.reported:
            exported[metrics.epoch] = training.export(tmp_path / "models", which="last")
    training.finish()
    lines = runs.read_evaluations(tmp_path / "run")
    assert [(line["epoch"], line["mode"]) for line in lines] == [
        (epoch, mode) for epoch in exported for mode in ("greedy", "sample")
    ]
    # What is exported at that moment, played by the same seeds through another engine, does the same.
    seed = np.random.SeedSequence(0, spawn_key=(0, 0))
    for line in lines:
        found = exported[line["epoch"]]
        actor = EngineActor(found.spec, engines.load(found, "tensorflow"), line["mode"])
        envs = environments.make("CartPole-v1", 4)
        assert evaluate(actor, envs, 5, seed).returns.tolist() == line["returns"]
    metrics_of = {line["epoch"]: line for line in runs.read_metrics(tmp_path / "run")}
    for line in lines:
        assert metrics_of[line["epoch"]][f"evaluation_{line['mode']}"] == np.mean(line["returns"])
    greedy, sampled = ([line["mean"] for line in lines if line["mode"] == mode] for mode in ("greedy", "sample"))
    assert training.best is not None
    assert training.best.score == max(greedy) != max(sampled)
    # Nothing is known of training's seeds there, which have a key of one number.
    training_seeds = {tuple(np.random.SeedSequence(0, spawn_key=(i,)).generate_state(4)) for i in range(100)}
    assert tuple(seed.generate_state(4)) not in training_seeds


class Ruin(Callback):
    """Spoils the policy after some epochs: its greedy action is always the same."""

    def on_epoch(self, training: Training, metrics: EpochMetrics) -> None:
        if metrics.epoch >= 8:
            *body, _ = training.policy.weights()
            training.policy.assign([*(0 * weight for weight in body), np.array([1, 0], np.float32)])
            training._frozen.freeze()


def test_the_best_evaluated_policy_is_exported_and_otherwise_the_last(tmp_path: Path) -> None:
    config, run = (
        small(learning_rate=0.02, steps=3000, hidden=(16,), evaluation_every=2, normalize_observations=False),
        tmp_path / "run",
    )
    training = run_to_end(Training(config, run, callbacks=[Ruin()]))
    lines = runs.read_evaluations(run)
    scores = [line["mean"] for line in lines]
    best = max(range(len(scores)), key=scores.__getitem__)
    assert scores[-1] < 12 < max(scores)
    assert lines[best]["epoch"] < 8 < training.epoch
    assert training.best is not None
    assert training.best[:3] == (max(scores), lines[best]["epoch"], lines[best]["env_steps"])
    found = training.export(tmp_path / "models")
    assert found.provenance["results"]["exported_epoch"] == training.best.epoch
    assert not training.policy.weights()[0].any()  # training has its own again
    # From the run directory, in what may be another process, it is the same.
    resumed = Training(config, run, resume=True)
    exports = [found, resumed.export(tmp_path / "models"), resumed.export(tmp_path / "models", which="last")]
    seed = np.random.SeedSequence(0, spawn_key=(0, 0))
    means = []
    for exported in exports:
        actor = EngineActor(exported.spec, engines.load(exported), "greedy")
        means.append(evaluate(actor, environments.make("CartPole-v1", 4), 20, seed).mean)
    assert means == [max(scores), max(scores), scores[-1]]
    assert runs.read_summary(run)["best"]["score"] == max(scores)


def test_without_evaluations_there_is_no_best(undisturbed: Training) -> None:
    assert undisturbed.best is None
    assert undisturbed.summary()["best"] is None


class InNumPy(Callback):
    """Reports, and scores by, numbers of NumPy's, as reading weights or images gives them."""

    def on_epoch(self, training: Training, metrics: EpochMetrics) -> None:
        training.report(single=np.float32(1.5), count=np.int64(3), lost=np.float32("nan"))
        training.keep_best(np.float32(0.25) * metrics.epoch)


def test_numbers_of_numpys_are_numbers(tmp_path: Path) -> None:
    training = run_to_end(Training(small(steps=200), tmp_path / "run", callbacks=[InNumPy()]))
    for line in runs.read_metrics(tmp_path / "run"):
        assert (line["single"], line["count"], line["lost"]) == (1.5, 3, None)
    assert runs.read_summary(tmp_path / "run")["best"]["score"] == 0.25 * training.epoch


def test_of_equal_scores_the_later_policy_is_kept() -> None:
    training = Training(small())
    epochs = iter(training)
    kept = []
    for score in (1.0, 1.0, 0.5, float("nan"), 1.0):
        next(epochs)
        kept.append(training.keep_best(score))
    assert kept == [True, True, False, False, True]
    assert training.best is not None
    assert training.best[:2] == (1.0, 5)
    np.testing.assert_array_equal(training.best.weights[0], training.policy.weights()[0])


def test_an_environment_that_fails_in_an_evaluation_leaves_the_epoch(tmp_path: Path) -> None:
    settings = {"env_id": "tests.environments.scripted:Faulty-v0", "envs": 2, "episodes": 2, "hidden": (4,)}
    config = pgkeras.Config(**settings, evaluation_every=2, steps=100, checkpoint_seconds=0)
    training = Training(config, tmp_path / "run")
    epochs = iter(training)
    next(epochs)
    training._source._environments._environments[0].unwrapped._fault = "step raises"  # type: ignore[attr-defined]
    collector = training._phases.collector
    collector.collect = lambda *_, collect=collector.collect: _unharmed(training, collect, *_)  # type: ignore[method-assign]
    with pytest.raises(EnvironmentStepError, match="the simulator is gone"):
        next(epochs)
    training.finish()
    assert [line["epoch"] for line in runs.read_metrics(tmp_path / "run")] == [1, 2]
    assert Training(config, tmp_path / "run", resume=True).epoch == 2


def _unharmed(training: Training, collect: Any, *arguments: Any) -> Any:
    """Collects as if the environment had no fault, so that it shows in the evaluation first."""
    first = training._source._environments._environments[0].unwrapped  # type: ignore[attr-defined]
    fault, first._fault = first._fault, "none"
    try:
        return collect(*arguments)
    finally:
        first._fault = fault


def test_the_state_after_an_evaluated_run_is_that_of_its_seed() -> None:
    a, b = (run_to_end(Training(small(evaluation_every=2))) for _ in range(2))
    assert_same_state(a, b)
    assert a.best is not None
    assert b.best is not None
    assert a.best[:3] == b.best[:3]
    assert without_times([a.summary()["best"]]) == without_times([b.summary()["best"]])
