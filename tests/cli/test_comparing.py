"""train --seeds and compare."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest

from pgkeras.cli import background
from pgkeras.cli.seeds import parse_seeds
from pgkeras.errors import RunError
from pgkeras.runs.curves import value_at
from pgkeras.runs.directory import read_last_epoch, read_metrics
from pgkeras.settings.config import resolve
from tests.cli.conftest import here


def pgkeras(directory, *arguments):
    command = [sys.executable, "-m", "pgkeras", *map(str, arguments)]
    environment = {**os.environ, "NO_COLOR": "1"}
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, env=environment)


SHORT = ["CartPole-v1", "--steps", "3000", "--set", "episodes=8", "--set", "envs=8", "--set", "hidden=8"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    directory = tmp_path_factory.mktemp("seeds")
    finished = pgkeras(
        directory, "train", *SHORT, "--seeds", "0,2-3", "--jobs", "2", "--out", "runs", "--export-to", "m"
    )
    assert finished.returncode == 0, finished.stderr
    return directory, finished


def last_returns(directory, seeds):
    lines = [(directory / "runs" / f"seed-{seed}" / "metrics.jsonl").read_text().splitlines() for seed in seeds]
    return np.array([json.loads(of_run[-1])["mean_return_100"] for of_run in lines])


def test_every_seed_is_a_run_like_one_by_itself(trained):
    directory, finished = trained
    assert sorted(path.name for path in (directory / "runs").iterdir()) == ["seed-0", "seed-2", "seed-3"]
    for seed in (0, 2, 3):
        assert f"seed {seed}: " in finished.stderr
        config = json.loads((directory / "runs" / f"seed-{seed}" / "config.json").read_text())["config"]
        assert (config["seed"], config["episodes"], config["steps"]) == (seed, 8, 3000)
    alone = pgkeras(directory, "train", *SHORT, "--seed", "2", "--out", "alone", "--no-export")
    assert alone.returncode == 0, alone.stderr
    both = [
        [json.loads(line)["return_mean"] for line in (directory / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("alone", "runs/seed-2")
    ]
    assert both[0] == both[1]


def test_the_last_epoch_is_read_by_itself(trained, tmp_path):
    run = trained[0] / "runs" / "seed-0"
    whole = (run / "metrics.jsonl").read_bytes()
    assert read_last_epoch(run) == read_metrics(run)[-1]
    assert read_last_epoch(tmp_path) is None, "there is no epoch yet"
    (tmp_path / "metrics.jsonl").write_bytes(whole * 200 + b'{"epoch": 7, "env')
    assert read_last_epoch(tmp_path) == read_metrics(run)[-1], "half a line is none yet"


def test_the_best_is_exported(trained):
    directory, finished = trained
    returns = last_returns(directory, (0, 2, 3))
    best = (0, 2, 3)[int(returns.argmax())]
    assert f"Best: runs/seed-{best} (last 100 episodes: " in finished.stdout
    (policy,) = (directory / "m").iterdir()
    manifest = json.loads((policy / "1" / "assets.extra" / "pgkeras" / "policy.json").read_text())
    assert manifest["provenance"]["seed"] == best


def test_compare(trained):
    directory, _ = trained
    runs = [f"runs/seed-{seed}" for seed in (0, 2, 3)]
    (found,) = json.loads(pgkeras(directory, "compare", *runs, "--json").stdout)
    (group,) = found["groups"]
    returns = last_returns(directory, (0, 2, 3))
    assert group["interquartile_mean"] == pytest.approx(returns.mean())
    assert group["interval"] == [None, None], "three runs are too few"
    assert group["range"] == [returns.min(), returns.max()]
    groups = ["--group", "some", "runs/seed-[02]", "--group", "other", "runs/seed-3"]
    (found,) = json.loads(pgkeras(directory, "compare", *groups, "--json").stdout)
    (pair,) = found["pairs"]
    assert (pair["first"], pair["second"]) == ("some", "other")
    assert pair["probability"] == pytest.approx(((returns[:2] > returns[2]) + 0.5 * (returns[:2] == returns[2])).mean())
    text = pgkeras(directory, "compare", *groups).stdout
    assert "CartPole-v1, mean_return_100 at the end" in text
    assert "(one run: no interval)  1 run\n" in text
    assert "some and other: not compared, because one of them has fewer than 5 runs" in text
    assert "%" not in text
    early = pgkeras(directory, "compare", *runs, "--at", "1000", "--json")
    (at,) = json.loads(early.stdout)
    assert at["groups"][0]["interquartile_mean"] != group["interquartile_mean"]


def test_five_runs_a_side_have_intervals_of_what_they_returned(tmp_path):
    generator = np.random.default_rng(0)
    returns = {label: generator.normal(mean, 1, 5) for label, mean in (("a", 0), ("b", 9))}
    for label, of_group in returns.items():
        for i, value in enumerate(of_group):
            run = tmp_path / f"{label}-{i}"
            run.mkdir()
            (run / "config.json").write_text('{"config": {"env_id": "E"}}')
            (run / "metrics.jsonl").write_text(json.dumps({"env_steps": 1, "mean_return_100": value}) + "\n")
    groups = ["--group", "a", f"{tmp_path}/a-*", "--group", "b", f"{tmp_path}/b-*"]
    (found,) = json.loads(here("compare", *groups, "--json").stdout)
    for row in found["groups"]:
        ordered = np.sort(returns[row["group"]])
        assert ordered[0] < row["interval"][0] < ordered[1:4].mean() < row["interval"][1] < ordered[4]
    assert found["pairs"] == [{"first": "a", "second": "b", "probability": 0.0, "interval": [0.0, 0.0]}]
    assert "a better than b: 0% (0% to 0%)" in here("compare", *groups).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare"], "give run directories"),
        (["compare", "nothing"], "nothing"),
        (["compare", "runs/seed-0", "--metric", "speed"], "no speed in its metrics; there is"),
        (["compare", "runs/seed-0", "--at", "999999999"], "it ended before 999,999,999 steps"),
        (["train", *SHORT, "--seeds", "0-1", "--seed", "3"], "leave out --seed"),
        (["train", *SHORT, "--seeds", "0-1", "--set", "seed=3"], "leave out --seed"),
        (["train", *SHORT, "--jobs", "3"], "--jobs requires --seeds: give both, or neither"),
        (["train", *SHORT, "--serve-every", "3"], "--serve-every requires --serve-to"),
        (["train", *SHORT, "--serve-keep", "3"], "--serve-keep requires --serve-to"),
        (["train", *SHORT, "--simulator-timeout", "3"], "--simulator-timeout requires --listen"),
        (["train", *SHORT, "--seeds", "a"], "expected something like 0-4"),
        (["train", *SHORT, "--seeds", "0-3", "--out", "runs"], "holds a run already"),
        (
            ["train", *SHORT, "--seeds", "0-3", "--out", "runs/seed-0/config.json"],
            "cannot create directory runs/seed-0",
        ),
        (["train", "CartPoll-v1", "--seeds", "0-3"], "unknown environment 'CartPoll-v1'; did you mean CartPole-v1?"),
    ],
)
def test_wrong_input(trained, arguments, message):
    refused = pgkeras(trained[0], *arguments)
    assert refused.returncode in (1, 2)
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_environment_whose_id_is_no_name_of_a_policy_is_told_before_training():
    gymnasium.register("Höhle-v0", "gymnasium.envs.classic_control:CartPoleEnv")
    try:
        for arguments in ((), ("--seeds", "0-1"), ("--no-export", "--serve-to", "served")):
            refused = here("train", "Höhle-v0", *arguments)
            assert refused.exit_code == 1
            assert "policy name 'höhle-v0': expected" in refused.stderr
            assert "give another with --name" in refused.stderr
    finally:
        del gymnasium.registry["Höhle-v0"]


def test_metrics_that_a_run_has_no_number_of_are_not_offered(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"env_steps": 9, "loss": 0.5, "kl": null}\n')
    with pytest.raises(RunError, match=r"no kl in its metrics; there is env_steps, loss$"):
        value_at([tmp_path], "kl")


def test_a_failure_of_before_is_not_told_again(tmp_path, monkeypatch):
    class Killed:
        def __init__(self, **_):
            pass

        def start(self):
            pass

    monkeypatch.setattr(background, "_context", lambda: SimpleNamespace(Process=Killed))
    (tmp_path / "failure.txt").write_text("activation 'nonsense': Keras has no activation of that name")
    background.start(resolve("CartPole-v1", "default"), tmp_path)
    assert background.failure_of(tmp_path, -9) == "exit status -9"


def test_seeds_by_ranges_and_one_by_one():
    assert parse_seeds("0-4") == [0, 1, 2, 3, 4]
    assert parse_seeds("7, 0-1,3") == [7, 0, 1, 3]
    for wrong in ("", "4-2", "0-1,9-7", "0,0", "0-99999999", "-1", "1-2-3", "²"):
        with pytest.raises(Exception, match="--seeds"):
            parse_seeds(wrong)


def test_a_seed_that_fails_is_told_and_the_others_count(tmp_path):
    (tmp_path / "odd.py").write_text(
        "import gymnasium\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "class Odd(CartPoleEnv):\n"
        "    def reset(self, *, seed=None, options=None):\n"
        "        if seed is not None and seed % 7 == 0: raise RuntimeError('an odd seed')\n"
        "        return super().reset(seed=seed, options=options)\n"
        "gymnasium.register('Odd-v0', Odd, max_episode_steps=50)\n"
    )
    odd = ["odd:Odd-v0", *SHORT[1:], "--set", "vectorization=plain", "--set", "envs=1", "--no-export"]
    finished = pgkeras(tmp_path, "train", *odd, "--seeds", "0-1", "--out", "runs")
    states = [f"seed {seed} failed" in finished.stderr for seed in (0, 1)]
    assert any(states)
    assert (finished.returncode == 0) is not all(states)
    assert "an odd seed" in finished.stderr


def test_a_signal_ends_runs_of_several_seeds_well(tmp_path):
    endless = ["--steps", "100000000", "--set", "hidden=8", "--stop-return", "100000", "--seeds", "0-2", "--jobs", "2"]
    command = [sys.executable, "-m", "pgkeras", "train", "CartPole-v1", *endless, "--out", "runs"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True) as training:
        metrics = [tmp_path / "runs" / f"seed-{seed}" / "metrics.jsonl" for seed in (0, 1)]
        deadline = time.monotonic() + 90
        while not all(file.exists() and file.read_text() for file in metrics):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        training.send_signal(signal.SIGTERM)
        _, said = training.communicate(timeout=60)
    assert training.returncode == 128 + signal.SIGTERM, said
    assert "Traceback" not in said
    for seed in (0, 1):
        assert (tmp_path / "runs" / f"seed-{seed}" / "summary.json").exists(), "it has ended well"
        assert f"Resume with: pgkeras train --resume runs/seed-{seed}\n" in said
    assert not (tmp_path / "runs" / "seed-2").exists()
    deadline = time.monotonic() + 20
    while subprocess.run(["pgrep", "-s", str(training.pid)], capture_output=True, check=False).stdout:
        assert time.monotonic() < deadline, "somebody has not ended"
        time.sleep(0.1)


def test_a_directory_of_runs_stands_for_them(trained):
    directory, _ = trained
    within = pgkeras(directory, "compare", "runs/seed-0", "runs/seed-2", "runs/seed-3", "--json")
    assert pgkeras(directory, "compare", "runs", "--json").stdout == within.stdout
