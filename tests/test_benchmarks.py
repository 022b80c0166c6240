"""The benchmarks: their operation counts, environments, cached runs and reports."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import budget, gpu, report, rows, serving, steps
from pgkeras.policy.policy import Policy
from pgkeras.settings.groups import EstimatorSettings, NetworkSettings
from pgkeras.spaces import Discrete
from tests.cli.conftest import ROOT, environment


@pytest.mark.parametrize("network", ["mlp", "wide-mlp", "cnn", "nature-cnn"])
def test_operation_counts_agree_with_tensorflows(network: str) -> None:
    policy = Policy(gpu.space(gpu.CASES[network]), Discrete(6), settings=NetworkSettings(**gpu.CASES[network].settings))
    rows = 8
    observation = tf.TensorSpec([rows, *gpu.CASES[network].shape], gpu.CASES[network].dtype)
    graph = tf.function(policy.parameters).get_concrete_function(observation).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    counted = tf.compat.v1.profiler.profile(graph, options=options).total_float_ops
    operations, _ = gpu.counts(policy)
    # TensorFlow also counts biases, activations and scaling.
    assert rows * operations == pytest.approx(counted, rel=0.06)
    assert rows * operations < counted


def test_operations_of_a_gru() -> None:
    case = gpu.CASES["gru"]
    operations, outputs = gpu.counts(Policy(gpu.space(case), Discrete(6), settings=NetworkSettings(**case.settings)))
    # 17 to 64; 3 gates from 64 inputs and 64 state units; 64 to 6.
    assert operations == 2 * (17 * 64 + 3 * 64 * (64 + 64) + 64 * 6)
    assert outputs == 64 + 64 + 6


def test_every_network_is_measured_on_the_cpu(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--networks", "mlp", "cnn", "gru", "--sizes", "64", "--seconds"]
    command += ["0", "--matrix", "64", "--devices", "CPU", "--json", str(tmp_path / "out.json")]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    results = json.loads((tmp_path / "out.json").read_text())["results"]
    assert [(r.get("network"), r.get("steps")) for r in results] == [
        (None, None), ("mlp", 64), ("cnn", 64), ("gru", 64)
    ]  # fmt: skip
    for result in results[1:]:
        assert result["milliseconds"] > 0
        assert result["steps_per_second"] == pytest.approx(64 / result["milliseconds"] * 1e3)
        assert result["flops_share"] > 0
        assert result["bytes_share"] > 0
        assert "note" not in result
    assert "| CPU" in done.stdout


def test_the_returns_of_simple_policies_in_the_benchmark_environments() -> None:
    import gymnasium

    import benchmarks.environments  # noqa: F401 - registers them

    def mean_return(env_id: str, act: Any, episodes: int, **kwargs: Any) -> float:
        env, total, seeds = gymnasium.make(env_id, **kwargs), 0.0, np.random.default_rng(0)
        for episode in range(episodes):
            observation, _ = env.reset(seed=episode)
            over = False
            while not over:
                observation, reward, over, _, _ = env.step(act(observation, seeds))
                total += float(reward)
        return total / episodes

    at_random = mean_return("Aim-v0", lambda _, rng: rng.integers(1_000), 2_000, choices=1_000)
    assert at_random == pytest.approx(8 / 3, abs=0.1)
    assert mean_return("Aim-v0", lambda seen, _: seen, 20) == pytest.approx(8.0, abs=1e-5)
    assert mean_return("RockPaperScissors-v0", lambda _, rng: rng.integers(3), 3_000) == pytest.approx(0, abs=0.4)
    assert mean_return("RockPaperScissors-v0", lambda *_: 2, 300) == pytest.approx(-29, abs=0.2)
    for odds in ([0.5, 0.25, 0.25], [0.4, 0.4, 0.2], [0.2, 0.3, 0.5]):
        assert mean_return("RockPaperScissors-v0", lambda _, rng, p=odds: rng.choice(3, p=p), 500) < -1
    mixed = mean_return("SwitchedCorridor-v0", lambda _, rng: int(rng.uniform() < 0.59), 5_000)
    assert mixed == pytest.approx(-11.66, abs=0.4)  # Sutton & Barto 2018, example 13.1


def test_saved_runs_with_current_settings_are_not_repeated(tmp_path: Path) -> None:
    file, ran = tmp_path / "runs.jsonl", []

    def train(which: Any) -> dict[str, Any]:
        ran.append(which["seed"])
        if which["seed"] == 2:
            raise subprocess.CalledProcessError(1, "training")
        return {"steps": 10, "last_100": 1.0, "greedy": 2.0, "config": {"gamma": gamma}}

    def fill(seeds: int) -> list[int]:
        wanted = [{"case": "CartPole-v1", "seed": seed} for seed in range(seeds)]
        kept = budget.fill(file, wanted, train, 1, lambda run: run["config"] == {"gamma": gamma})
        return [run["seed"] for run in kept]

    gamma = 0.9
    assert (fill(2), ran) == ([0, 1], [0, 1])
    assert (fill(4), ran) == ([0, 1, 3], [0, 1, 2, 3]), "the third run fails, and the others continue"
    gamma = 0.99
    assert (fill(1), ran) == ([0], [0, 1, 2, 3, 0]), "runs with other settings are not reused"
    assert len(file.read_text().splitlines()) == 4, "but they stay in the file"


def test_a_report_replaces_only_its_own_section(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n<!-- made -->\n")
    report.write_below(page, "<!-- made -->", "old")
    assert page.read_text() == "# Title\n\n<!-- made -->\n\nold\n"
    page.write_text(f"{page.read_text()}\n{report.END}\n\nby hand\n")
    for _ in range(2):
        report.write_below(page, "<!-- made -->", "new")
    assert page.read_text() == f"# Title\n\n<!-- made -->\n\nnew\n\n{report.END}\n\nby hand\n"


def test_serving_reads_the_versions_of_installed_packages() -> None:
    for package in serving.PACKAGES:
        assert metadata.version(package)


def test_rows_of_the_results_have_unique_names() -> None:
    every = [*rows.ROWS, *rows.LONGER, *rows.DEFAULTS]
    assert len({row.name for row in every}) == len(every)
    longer = {row.name: row.config(3) for row in rows.LONGER}
    assert longer["benchmarks.environments:MinAtar/Breakout-v1, steps=5000000 entropy_bonus=0.05"].steps == 5_000_000
    assert all(config.seed == 3 for config in longer.values())


def test_a_run_shared_by_two_learners_is_saved_under_one_name() -> None:
    for case, gamma in steps._GAMMA.items():
        kept = steps._kept_as(case, steps._TUNED)
        assert kept == (steps._SLOW if gamma == EstimatorSettings.gamma else steps._TUNED), case
        assert steps._kept_as(case, steps._NATURAL) == steps._NATURAL
