"""Several devices or processes take the same gradient step as one device.

TensorFlow cannot change its devices after its start, so each case runs in a new process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from pgkeras.errors import ConfigError
from pgkeras.reinforce.replicas import Replicas
from pgkeras.reinforce.tf_config import TF_CONFIG
from pgkeras.settings.config import Config
from tests.ports import free_ports

_SAME_STEPS = """
import json, sys
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from pgkeras.environments.trajectory import Trajectory
from pgkeras.reinforce import batch as batches, train_step
from pgkeras.reinforce.learner import Learner
from pgkeras.reinforce.replicas import Replicas
from pgkeras.settings.config import Config
from pgkeras.spaces import Box, Discrete

settings = json.loads(sys.argv[1])
space = Box(np.full(4, -np.inf), np.full(4, np.inf), np.dtype(np.float32))


def episodes(seed, most, number):
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, most + 1, number)
    lengths[0] = most
    real = np.arange(most)[:, None] < lengths
    return Trajectory(
        observations=generator.normal(size=(most, number, 4)).astype(np.float32),
        samples=generator.integers(0, 3, (most, number)),
        rewards=np.where(real, generator.normal(size=(most, number)), 0.0),
        lengths=lengths,
        terminated=generator.random(number) < 0.5,
        final_observations=generator.normal(size=(number, 4)).astype(np.float32),
    )


rows = settings.pop("rows", 10_000)
rtol, atol = (5e-3, 1e-3) if settings.get("optimizer") == "natural" else (1e-5, 1e-6)  # the solver amplifies rounding
train_step.rows_at_once = batches.rows_at_once = lambda layout: rows
config = Config(env_id="Test-v0", **settings)
replicas = Replicas.of("all")
assert replicas.count == 2
one, two = Learner(config, space, Discrete(3)), Learner(config, space, Discrete(3), replicas=replicas)
two.restore(one.state())
for epoch, (most, number) in enumerate([(13, 5), (4, 8), (1, 1), (30, 3)]):
    batch = episodes(epoch, most, number)
    lessons = [vars(learner.learn(batch, epoch, 0.0)) for learner in (one, two)]
    for name, value in lessons[0].items():
        np.testing.assert_allclose(lessons[1][name], value, rtol=rtol, atol=atol, err_msg=name)
    for mine, theirs in zip(one.weights, two.weights):
        np.testing.assert_allclose(theirs, mine, atol=atol)
assert set(two.state()) == set(one.state())
print("the same")
"""


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"memory": "gru", "rows": 40}, marks=pytest.mark.slow),
        pytest.param(
            {"target_kl": 0.01, "baseline": "value", "entropy_bonus": 0.1, "normalize_observations": True},
            marks=pytest.mark.slow,
        ),
        pytest.param({"optimizer": "natural", "target_kl": 0.02, "baseline": "value"}, marks=pytest.mark.slow),
        pytest.param(
            {"optimizer": "natural", "target_kl": 0.02, "memory": "gru", "rows": 40, "fisher_steps": 30},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"optimizer": "sgd", "clip_norm": None, "baseline": "running-mean", "rows": 7, "reuse": 3},
            marks=pytest.mark.slow,
        ),
    ],
    ids=str,
)
def test_two_devices_take_the_same_step_as_one(settings):
    command = [sys.executable, "-c", _SAME_STEPS, json.dumps(settings)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert finished.stdout.endswith("the same\n"), finished.stderr[-3000:]


def started(tmp_path, port, process, *options, processes=2):
    """One process of a training."""
    workers = [f"127.0.0.1:{one}" for one in port]
    config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": process}}
    environment = {**os.environ, TF_CONFIG: json.dumps(config)} if processes > 1 else dict(os.environ)
    command = [sys.executable, "-m", "pgkeras", "train", "Acrobot-v1", "--preset", "default", "--no-export"]
    settings = ("vectorization=plain", "episodes=6", "envs=3", "max_episode_steps=60")
    command += [*(f"--set={setting}" for setting in settings), *options]
    with (tmp_path / f"log-{process}").open("w") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, text=True, env=environment, cwd=tmp_path)


def last_weights(directory):
    *_, newest = sorted((directory / "checkpoints").glob("*.npz"))
    arrays = np.load(newest)
    return {name: arrays[name] for name in arrays.files if name.startswith("variable")}


def test_two_processes_train_like_one(tmp_path):
    steps = ["--steps", "1500", "--set", "baseline=value", "--set", "normalize_observations=true"]
    assert started(tmp_path, [], 9, *steps, "--out", "alone", processes=1).wait(200) == 0
    ports = free_ports(2)
    both = [started(tmp_path, ports, i, *steps, "--devices", "all", "--out", f"run-{i}") for i in range(2)]
    assert [process.wait(200) for process in both] == [0, 0], (tmp_path / "log-0").read_text()[-3000:]
    alone, together = last_weights(tmp_path / "alone"), last_weights(tmp_path / "run-0")
    assert set(alone) == set(together)
    for name, values in alone.items():
        np.testing.assert_allclose(together[name], values, atol=1e-6, err_msg=name)
    metrics = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("alone", "run-0")
    ]
    for mine, theirs in zip(*metrics, strict=True):
        assert (mine["env_steps"], mine["return_mean"]) == (theirs["env_steps"], theirs["return_mean"])
    assert not (tmp_path / "run-1").exists(), "the first process has the run's files"
    assert "the first of the 2 processes writes the run's files" in (tmp_path / "log-1").read_text()


@pytest.mark.slow
def test_a_stop_in_one_process_stops_all_before_evaluation_and_only_the_first_publishes(tmp_path):
    code = """
import sys
import pgkeras
from pgkeras.runs.callbacks import Publish

class Enough(pgkeras.Callback):
    def on_epoch(self, training, metrics):
        if metrics.epoch == 3 and not training.leads:
            training.stop("enough")

settings = {"envs": 3, "episodes": 3, "max_episode_steps": 40, "devices": "all", "evaluation_every": 1000}
callbacks = [Enough(), Publish("models", "policy", 0.0)]
training = pgkeras.train("Acrobot-v1", preset="default", out=sys.argv[1], callbacks=callbacks, **settings)
assert training.stop_reason == ("a process of the training was stopped" if training.leads else "enough")
"""
    ports = free_ports(2)
    workers = [f"127.0.0.1:{port}" for port in ports]
    both = []
    for i in range(2):
        config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": i}}
        command = [sys.executable, "-c", code, f"run-{i}"]
        with (tmp_path / f"log-{i}").open("w") as log:
            variables = {**os.environ, TF_CONFIG: json.dumps(config)}
            both.append(subprocess.Popen(command, stdout=log, stderr=log, env=variables, cwd=tmp_path))
    said = [(process.wait(200), (tmp_path / f"log-{i}").read_text()[-3000:]) for i, process in enumerate(both)]
    assert [exit_status for exit_status, _ in said] == [0, 0], said
    evaluations = (tmp_path / "run-0" / "evaluations.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in evaluations] == [3]
    versions = {path.name for path in (tmp_path / "models" / "policy").iterdir() if path.name.isdecimal()}
    assert versions == {"1", "2", "3"}


@pytest.mark.slow
def test_killing_one_process_ends_the_others_and_the_run_resumes(tmp_path):
    endless = ["--devices", "all", "--steps", "100000000", "--set", "stop_return=1e9"]
    endless += ["--set", "checkpoint_seconds=0"]
    ports = free_ports(2)
    both = [started(tmp_path, ports, i, *endless, "--out", f"run-{i}") for i in range(2)]
    metrics = tmp_path / "run-0" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and len(metrics.read_text().splitlines()) > 3):
        assert time.monotonic() < deadline, (tmp_path / "log-0").read_text()[-3000:]
        time.sleep(0.1)
    both[1].send_signal(signal.SIGKILL)
    assert both[0].wait(120) == 1
    said = (tmp_path / "log-0").read_text()
    assert "another process of the training has ended" in said
    assert "Traceback" not in said
    done = len(metrics.read_text().splitlines())
    environment = ["--resume", "run-0", "--set", f"steps={(done + 3) * 6 * 60}"]
    ports = free_ports(2)
    workers = [f"127.0.0.1:{one}" for one in ports]
    again = []
    for i in range(2):
        config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": i}}
        command = [sys.executable, "-m", "pgkeras", "train", "--no-export", *environment]
        with (tmp_path / f"log-{i}").open("w") as log:
            variables = {**os.environ, TF_CONFIG: json.dumps(config)}
            again.append(subprocess.Popen(command, stdout=log, stderr=log, env=variables, cwd=tmp_path))
    assert [process.wait(200) for process in again] == [0, 0], (tmp_path / "log-0").read_text()[-3000:]
    epochs = [json.loads(line)["epoch"] for line in metrics.read_text().splitlines()]
    assert epochs == list(range(1, len(epochs) + 1))
    assert len(epochs) > done - 2


def test_one_device_needs_no_replicas(monkeypatch):
    monkeypatch.delenv(TF_CONFIG, raising=False)
    assert Replicas.of("one") is None
    with pytest.raises(ConfigError, match="TensorFlow finds no GPU"):
        Replicas.of("all")
    with pytest.raises(ConfigError, match="XLA compiles the step for one device"):
        Config(env_id="Test-v0", devices="all", jit_compile=True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nonsense", "not a JSON object with a cluster and a task"),
        ('{"cluster": {"worker": ["a:1"]}}', "not a JSON object with a cluster and a task"),
        ('{"cluster": {"ps": ["a:1"], "worker": ["b:1"]}, "task": {"type": "worker", "index": 0}}', "not ps"),
        ('{"cluster": {"worker": ["a", "b:1"]}, "task": {"type": "worker", "index": 0}}', "must be HOST:PORT"),
        ('{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}', "listed twice"),
        ('{"cluster": {"chief": ["a:1", "b:1"]}, "task": {"type": "chief", "index": 0}}', "only one chief"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}', "worker 2, is not in"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "chief", "index": 0}}', "chief 0, is not in"),
    ],
)
def test_an_invalid_tf_config_is_rejected(monkeypatch, text, reason):
    monkeypatch.setenv(TF_CONFIG, text)
    with pytest.raises(ConfigError, match=reason):
        Replicas.of("all")
