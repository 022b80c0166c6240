"""Collecting with Ray: the weights do not depend on where episodes are played, or on faults of actors."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from pgkeras import runs
from pgkeras.cluster import actors, batch
from pgkeras.errors import ConfigError, EnvironmentSetupError, EnvironmentStepError
from pgkeras.runs.training import Training
from tests.cluster.trouble import DRIVER, Trouble
from tests.runs.small import assert_same_state, run_to_end, small

TROUBLE = "tests.cluster.trouble:Trouble-v0"


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    os.environ[DRIVER] = str(os.getpid())
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def places(directory: Path, count: int) -> str:
    directory.mkdir()
    for i in range(count):
        (directory / str(i)).touch()
    return str(directory)


def line(**settings: Any) -> Any:
    return small(**{"env_id": TROUBLE, "steps": 700, "vectorization": "plain", "stop_return": 1e9} | settings)


@pytest.fixture(scope="module")
def undisturbed(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Training:
    return run_to_end(Training(line(), tmp_path_factory.mktemp("undisturbed") / "run"))


@pytest.mark.parametrize(
    ("settings", "counts"),
    [
        ({"env_id": "CartPole-v1", "envs": 5, "episodes": 7}, (1, 3)),
        pytest.param(
            {"memory": "gru", "memory_units": 4, "envs": 4, "episodes": 3, "baseline": "value"},
            (3,),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"env_id": "benchmarks.environments:KnightsTour-v0", "env_kwargs": {"size": 5}, "steps": 300},
            (2,),
            marks=pytest.mark.slow,
        ),
        pytest.param({"env_id": "tests.reinforce.bandits:Gamepad-v0", "gamma": 0.0}, (2,), marks=pytest.mark.slow),
    ],
    ids=["numbers", "memory", "masks", "parts"],
)
def test_weights_do_not_depend_on_where_episodes_are_played(
    settings: dict[str, Any], counts: tuple[int, ...], cluster: None, tmp_path: Path
) -> None:
    settings = {"evaluation_every": 3, "evaluation_episodes": 3, **settings}
    here = run_to_end(Training(line(**settings), tmp_path / "here"))
    assert here.epoch > 2
    evaluated = runs.read_evaluations(tmp_path / "here")
    processes = {"vectorization": "async", "env_workers": 2}
    ways = [processes, *({"collect": "ray", "ray_actors": n, "ray_actor_cpus": 0.2} for n in counts)]
    for i, way in enumerate(ways):
        there = run_to_end(Training(line(**settings | way), tmp_path / str(i)))
        assert_same_state(here, there)
        elsewhere = runs.read_evaluations(tmp_path / str(i))
        assert [line["returns"] for line in evaluated] == [line["returns"] for line in elsewhere]


@pytest.mark.slow
def test_actors_use_litert_where_the_driver_uses_tensorflow(cluster: None, tmp_path: Path) -> None:
    settings = {"env_id": "tests.cluster.trouble:Camera-v0", "steps": 60}
    here = run_to_end(Training(line(**settings, act_engine="litert"), tmp_path / "here"))
    there = run_to_end(Training(line(**settings, collect="ray", ray_actors=2), tmp_path / "there"))
    assert there.config.act_engine == "auto"
    assert_same_state(here, there)


def test_killed_actors_do_not_change_the_weights(undisturbed: Training, tmp_path: Path) -> None:
    kwargs = {"kind": "die", "places": places(tmp_path / "places", 5)}
    settings = {"env_kwargs": kwargs, "collect": "ray", "ray_actors": 2}
    training = run_to_end(Training(line(**settings), tmp_path / "run"))
    assert not list((tmp_path / "places").iterdir())
    assert runs.read_summary(tmp_path / "run")["env_restarts"] == 5
    assert_same_state(training, undisturbed)


def test_an_interrupted_batch_leaves_no_actor_busy(
    undisturbed: Training, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kwargs = {"kind": "hang", "places": places(tmp_path / "places", 1)}
    training = Training(line(env_kwargs=kwargs, collect="ray", ray_actors=2, episodes=30))

    def stop(*_: int) -> None:
        if not any((tmp_path / "places").iterdir()):  # an actor hangs
            training.interrupt()

    training.on_progress = stop
    assert list(training) == []
    training.on_progress = None
    monkeypatch.setattr(batch, "_PATIENCE_SECONDS", 0.5)  # the successor, which takes longer to start, is not late
    assert len(training.evaluate(4, "sample").returns) == 4
    assert training.summary()["env_restarts"] == 0, "a busy or starting actor was replaced as late"
    training.finish()


@pytest.mark.slow
def test_an_actor_that_hangs_is_replaced(undisturbed: Training, tmp_path: Path) -> None:
    kwargs = {"kind": "hang", "places": places(tmp_path / "places", 1)}
    settings = {"env_kwargs": kwargs, "collect": "ray", "ray_actors": 2}
    training = run_to_end(Training(line(**settings), tmp_path / "run"))
    assert runs.read_summary(tmp_path / "run")["env_restarts"] == 1
    assert_same_state(training, undisturbed)


@pytest.mark.slow
def test_an_actor_with_long_episodes_finishes_eventually(
    cluster: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # One batch with one episode for each of two actors. Only one of the episodes is long.
    settings = {"envs": 2, "episodes": 2, "steps": 1, "seed": 1, "time_limit": 120.0}
    here = run_to_end(Training(line(**settings), tmp_path / "here"))
    kwargs = {"kind": "slow"}
    there = Training(line(**settings, env_kwargs=kwargs, collect="ray", ray_actors=2), tmp_path / "there")
    monkeypatch.setattr(batch, "_PATIENCE_SECONDS", 0.5)
    run_to_end(there)
    # The first successor is as slow, because it plays the same episodes.
    assert runs.read_summary(tmp_path / "there")["env_restarts"] >= 2
    assert_same_state(here, there)


@pytest.mark.slow
def test_an_actor_that_dies_repeatedly_ends_the_run(cluster: None, tmp_path: Path) -> None:
    kwargs = {"kind": "die", "places": places(tmp_path / "places", 50)}
    with pytest.raises(EnvironmentStepError, match="a Ray actor died 4 times in one batch of episodes"):
        run_to_end(Training(line(env_kwargs=kwargs, collect="ray", ray_actors=1), tmp_path / "run"))


@pytest.fixture
def queued(cluster: None) -> Iterator[Callable[[float], None]]:
    """Returns a function that queues another job's actor, which gets its CPUs as soon as they are free."""
    import ray

    others: list[Any] = []
    yield lambda cpus: others.append(ray.remote(num_cpus=cpus)(Trouble).remote())
    for other in others:
        ray.kill(other)


def test_other_actors_play_for_a_dead_one_while_the_cluster_is_full(
    undisturbed: Training,
    queued: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    kwargs = {"kind": "die", "places": places(tmp_path / "places", 1)}
    training = Training(line(env_kwargs=kwargs, collect="ray", ray_actors=2), tmp_path / "run")
    monkeypatch.setattr(actors, "_START_SECONDS", 3.0)  # after all actors have started
    queued(1.0)
    run_to_end(training)
    warned = [record.message for record in caplog.records if "has not started" in record.message]
    assert len(warned) == 1, "the actor was placed anyway, or every batch repeated the warning"
    assert "within 3 s: the cluster has 0 CPUs free, and each actor takes 1; other actors play its" in warned[0]
    assert runs.read_summary(tmp_path / "run")["env_restarts"] == 1
    assert_same_state(training, undisturbed)


def test_a_run_ends_when_no_actor_is_left(
    queued: Callable[[float], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kwargs = {"kind": "die", "places": places(tmp_path / "places", 1)}
    training = Training(line(env_kwargs=kwargs, collect="ray", ray_actors=1), tmp_path / "run")
    monkeypatch.setattr(actors, "_START_SECONDS", 3.0)
    queued(1.5)
    with pytest.raises(
        EnvironmentStepError, match=r"no Ray actor is left, and none has started within 3 s: the cluster has 0\.5 CPUs"
    ):
        run_to_end(training)


class LossyGet:
    """Replaces ``ray.get``. The first calls raise an error of Ray."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception, times: int) -> None:
        import ray

        self._get, self._error, self._times = ray.get, error, times
        monkeypatch.setattr(ray, "get", self)

    def __call__(self, reference: Any) -> Any:
        if self._times:
            self._times -= 1
            raise self._error
        return self._get(reference)


def ray_errors() -> list[Exception]:
    from ray import exceptions

    return [
        exceptions.OutOfMemoryError("Task was killed due to the node running low on memory."),
        exceptions.ActorUnschedulableError("The actor's node affinity cannot be met."),
        exceptions.NodeDiedError("Its node died."),
        exceptions.ObjectLostError("ff" * 28, None, ""),
    ]


@pytest.mark.parametrize("error", ray_errors(), ids=lambda error: type(error).__name__)
def test_episodes_that_ray_loses_are_played_again(
    error: Exception, undisturbed: Training, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    training = Training(line(collect="ray", ray_actors=2), tmp_path / "run")
    LossyGet(monkeypatch, error, 1)
    run_to_end(training)
    assert runs.read_summary(tmp_path / "run")["env_restarts"] == 1
    assert_same_state(training, undisturbed)


def test_repeated_losses_end_the_run_with_a_pgkeras_error(
    cluster: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    training = Training(line(collect="ray", ray_actors=1), tmp_path / "run")
    LossyGet(monkeypatch, ray_errors()[0], 9)
    with pytest.raises(EnvironmentStepError, match=r"died 4 times in one batch.*running low on memory"):
        run_to_end(training)


def test_an_actor_killed_during_its_start_is_a_pgkeras_error(cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    LossyGet(monkeypatch, ray_errors()[0], 1)
    with pytest.raises(ConfigError, match=r"a Ray actor did not start: .*running low on memory"):
        Training(line(collect="ray", ray_actors=1))


def test_an_environment_error_in_an_actor_reaches_the_driver(cluster: None, tmp_path: Path) -> None:
    kwargs = {"kind": "raise", "places": places(tmp_path / "places", 1)}
    with pytest.raises(EnvironmentStepError, match=r"Trouble-v0 failed at step 3: RuntimeError: no more"):
        run_to_end(Training(line(env_kwargs=kwargs, collect="ray", ray_actors=2), tmp_path / "run"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ray_actors": 3}, "3 Ray actors of 1 CPUs do not fit into the cluster, which has 2"),
        ({"ray_actor_cpus": 64}, "1 Ray actors of 64 CPUs do not fit"),
        ({"vectorization": "async"}, "leave vectorization at auto"),
        ({"act_engine": "tensorflow"}, "acts with LiteRT"),
        ({"env_restarts": 3}, "env_restarts applies to environments in this process"),
        ({"env_workers": 2}, "env_workers applies to .*, and an environment error ends the run: remove the setting"),
        ({"env_timeout_seconds": 1.0}, "env_timeout_seconds applies to environments in this process"),
    ],
)
def test_invalid_settings_are_rejected_immediately(
    settings: dict[str, Any], message: str, cluster: None, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        Training(line(collect="ray", **settings), tmp_path / "run")


def test_the_number_of_actors_matches_exact_arithmetic() -> None:
    for there in range(1, 65):
        for hundredths in range(1, 101):
            assert actors._capacity(float(there), hundredths / 100) == there * 100 // hundredths


@pytest.mark.slow
def test_a_busy_cluster_is_an_error(cluster: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(actors, "_START_SECONDS", 5.0)
    import ray

    busy = ray.remote(num_cpus=1.5)(Trouble).remote()
    ray.get(busy.reset.remote(seed=0))
    try:
        with pytest.raises(
            ConfigError, match=r"1 of 1 Ray actors have not started within 5 s: the cluster has 0\.5 CPUs free"
        ):
            Training(line(collect="ray", ray_actors=1), tmp_path / "run")
    finally:
        ray.kill(busy)


@pytest.mark.slow
def test_an_environment_that_only_the_driver_has_is_named(cluster: None, tmp_path: Path) -> None:
    gymnasium.register("OnlyHere-v0", Trouble)
    with pytest.raises(EnvironmentSetupError, match=r"cannot create OnlyHere-v0, although this process can: .*unknown"):
        Training(line(env_id="OnlyHere-v0", collect="ray"), tmp_path / "run")


@pytest.mark.slow
def test_actors_with_other_versions_are_rejected(
    cluster: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    there = actors.versions()
    monkeypatch.setattr(actors, "versions", lambda: {**there, "pgkeras": "0.0.1"})
    with pytest.raises(
        ConfigError, match=f"has pgkeras {re.escape(there['pgkeras'])}, .* but this process has pgkeras 0.0.1"
    ):
        Training(line(collect="ray"), tmp_path / "run")


def trained(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pgkeras", "train", "CartPole-v1", "--collect", "ray", "--no-export", *options]
    command += ["--out", str(directory / "r")]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_the_command_line_reports_a_missing_cluster(tmp_path: Path) -> None:
    done = trained(tmp_path, "--set", "ray_address=127.0.0.1:9")
    assert done.returncode == 1
    assert "Error: ray_address: cannot connect to 127.0.0.1:9" in done.stderr


@pytest.mark.slow
def test_a_run_starts_a_local_cluster(tmp_path: Path) -> None:
    done = trained(tmp_path, "--steps", "3000", "--set", "ray_actors=2", "--set", "envs=4", "--set", "episodes=4")
    assert done.returncode == 0, done.stderr
    assert runs.read_summary(tmp_path / "r")["env_steps"] >= 3000
