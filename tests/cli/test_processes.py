"""What only real processes show: what is imported, signals, missing packages, completion, the quickstart."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pgkeras.bundle import bundle
from pgkeras.runs import directory as runs
from pgkeras.runs.checkpoints import Checkpoints
from tests.cli.conftest import Finished, blocking, environment, python

_HEAVY = ("tensorflow", "keras", "grpc", "gymnasium", "matplotlib", "ai_edge_litert", "rich")


def test_help_is_light(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['pgkeras', '--help']\n"
        "from pgkeras.cli import main\n"
        "try: main()\n"
        f"finally: print('loaded:', [m for m in {_HEAVY} if m in sys.modules], file=sys.stderr)"
    )
    result = python("-c", code, cwd=tmp_path)
    assert result.returncode == 0
    assert result.stdout.startswith("Usage: pgkeras ")
    assert "loaded: []" in result.stderr


def test_help_of_train_is_light(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['pgkeras', 'train', '--help']\n"
        "from pgkeras.cli import main\n"
        "try: main()\n"
        f"finally: print('loaded:', [m for m in {_HEAVY} if m in sys.modules], file=sys.stderr)"
    )
    result = python("-c", code, cwd=tmp_path)
    assert (result.returncode, "loaded: []" in result.stderr) == (0, True)


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("tensorflow", ["train", "CartPole-v1"], "train"),
        ("gymnasium", ["train", "CartPole-v1"], "train"),
        ("rich", ["train", "CartPole-v1"], "train"),
        ("tensorflow", ["export", "RUN"], "train"),
        ("matplotlib", ["plot", "RUN"], "train"),
        ("gymnasium", ["evaluate", "MODELS"], "train"),
        ("ai_edge_litert", ["evaluate", "MODELS", "--engine", "litert"], "serve"),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    finished: Finished, tmp_path: Path, module: str, arguments: list[str], extra: str
) -> None:
    places = {"RUN": str(finished.run), "MODELS": str(finished.models)}
    steps = ["--steps", "1", "--set", "hidden=4"] if arguments[0] == "train" else []
    given = [places.get(argument, argument) for argument in arguments] + steps
    result = python(*blocking(module, *given), cwd=tmp_path)
    assert "Traceback" not in result.stderr
    assert result.returncode == 1
    assert f'pip install "pgkeras[{extra}]"' in result.stderr
    assert re.search(rf"Error: {module.replace('_', '.')} is needed to", result.stderr)


def test_evaluate_needs_no_tensorflow(finished: Finished, tmp_path: Path) -> None:
    result = python(*blocking("tensorflow", "evaluate", finished.models, "--json", "--episodes", 2), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["episodes"], report["env_id"]) == (2, "CartPole-v1")


def interrupted(number: int, tmp_path: Path) -> tuple[int, str, str]:
    """Starts a training, sends the signal once it is under way; gives the exit code and the output."""
    arguments = ["train", "CartPole-v1", "--steps", "1000000000", "--stop-return", "1000000", "--out", "run"]
    arguments += ["--set", "hidden=8", "--set", "envs=2", "--set", "episodes=2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pgkeras", *arguments],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        metrics = tmp_path / "run" / runs.METRICS
        while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
            time.sleep(0.01)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    return process.returncode, stdout, stderr


def test_ctrl_c_ends_the_epoch_exports_and_says_how_to_go_on(tmp_path: Path) -> None:
    code, stdout, stderr = interrupted(signal.SIGINT, tmp_path)
    assert code == 130, stderr
    assert "Traceback" not in stderr
    assert "Exported: saved_models/cartpole-v1/1" in stdout
    found = bundle.open_bundle(bundle.find(tmp_path / "saved_models"))
    metrics = runs.read_metrics(tmp_path / "run")
    summary = runs.read_summary(tmp_path / "run")
    assert summary["epochs"] == len(metrics) == found.provenance["results"]["epochs"]
    assert Checkpoints(tmp_path / "run", 1).read()["counters"][0] == len(metrics)
    advice = re.search(r"Resume with: pgkeras (train --resume .*)", stderr)
    assert advice
    resumed = python("-m", "pgkeras", *advice[1].split(), "--steps", summary["env_steps"] + 1, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    after = runs.read_metrics(tmp_path / "run")
    assert after[: len(metrics)] == metrics
    assert len(after) == len(metrics) + 1
    assert "Exported: saved_models/cartpole-v1/2" in resumed.stdout


def test_a_second_ctrl_c_says_how_to_go_on_too(tmp_path: Path) -> None:
    (tmp_path / "stuck.py").write_text(
        "import pathlib, time, gymnasium\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "class Stuck(CartPoleEnv):\n"
        "    def step(self, action):\n"
        "        self.taken = getattr(self, 'taken', 0) + 1\n"
        "        if self.taken > 100:\n"
        "            pathlib.Path('is-stuck').touch()\n"
        "            time.sleep(60)\n"
        "        return super().step(action)\n"
        "gymnasium.register('Stuck-v0', Stuck, max_episode_steps=10)\n"
    )
    arguments = ["train", "stuck:Stuck-v0", "--out", "run", "--no-export", "--set", "hidden=4", "--set", "envs=1"]
    arguments += ["--set", "episodes=2", "--set", "vectorization=plain"]
    command = [sys.executable, "-m", "pgkeras", *arguments]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while not (tmp_path / "is-stuck").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        while "Stopping: " not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    told = [line for line in said.splitlines() if line]
    assert told == ["Resume with: pgkeras train --resume run", "Interrupted."]


@pytest.mark.slow
def test_sigterm_ends_the_epoch_too(tmp_path: Path) -> None:
    code, stdout, stderr = interrupted(signal.SIGTERM, tmp_path)
    assert code == 128 + signal.SIGTERM, stderr
    assert "Exported: " in stdout


@pytest.mark.skipif(sys.platform != "linux", reason="runs are forked on Linux alone")
@pytest.mark.parametrize("loaded", ["python", "tensorflow"])
@pytest.mark.parametrize("command", ["train CartPole-v1 --seeds 0-1 --out made", "tune CartPole-v1 --out made"])
def test_ctrl_c_while_tensorflow_is_imported_is_told_in_a_word(tmp_path: Path, command: str, loaded: str) -> None:
    """The terminal sends it to the whole group: to the process that runs are forked from as well."""
    arguments = [sys.executable, "-m", "pgkeras", *command.split()]
    options = {"cwd": tmp_path, "env": environment(), "stderr": subprocess.PIPE, "start_new_session": True}
    with subprocess.Popen(arguments, text=True, **options) as process:  # type: ignore[call-overload]
        while not _maps_of_fork_server(process.pid, loaded):
            assert process.poll() is None
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == "Interrupted."
    assert len(said.splitlines()) <= 3, said
    if command.startswith("train"):
        assert not (tmp_path / "made").exists()
    deadline = time.monotonic() + 20
    while subprocess.run(["pgrep", "-s", str(process.pid)], capture_output=True, check=False).stdout:
        assert time.monotonic() < deadline, "somebody has not ended"
        time.sleep(0.1)


def _maps_of_fork_server(session: int, library: str) -> bool:
    """Whether the process that runs are forked from has come so far that a file of that name is mapped."""
    found = subprocess.run(["pgrep", "-s", str(session), "-f", "forkserver"], capture_output=True, check=False).stdout
    for pid in found.split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if library in Path(f"/proc/{int(pid)}/maps").read_text():
                return True
    return False


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(tmp_path: Path, shell: str) -> None:
    result = python("-m", "pgkeras", cwd=tmp_path, _PGKERAS_COMPLETE=f"{shell}_source")
    assert result.returncode == 0
    assert "_PGKERAS_COMPLETE" in result.stdout
    assert "pgkeras" in result.stdout


def test_completion_of_commands_and_options(tmp_path: Path) -> None:
    def complete(words: str, index: int) -> list[str]:
        extra = {"_PGKERAS_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(index)}
        result = python("-m", "pgkeras", cwd=tmp_path, **extra)
        return [line.partition(",")[2] for line in result.stdout.splitlines()]

    assert complete("pgkeras tr", 1) == ["train"]
    assert complete("pgkeras train --time", 2) == ["--time-limit"]
    assert complete("pgkeras train --baseline le", 3) == ["leave-one-out"]
    assert set(complete("pgkeras ", 1)) >= {"train", "evaluate", "serve", "quickstart"}


def test_no_such_command_and_no_command(tmp_path: Path) -> None:
    result = python("-m", "pgkeras", "tarin", cwd=tmp_path)
    assert (result.returncode, "No such command 'tarin'. Did you mean 'train'?" in result.stderr) == (2, True)
    result = python("-m", "pgkeras", cwd=tmp_path)
    assert result.returncode == 2
    assert "Commands:" in result.stdout + result.stderr


def test_quickstart(tmp_path: Path) -> None:
    result = python("-m", "pgkeras", "quickstart", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    text = result.stdout
    assert re.findall(r"^(\d)/4  ", text, re.MULTILINE) == ["1", "2", "3", "4"]
    learned = re.search(r"Learned to balance for (\d+) of 500 steps", text)
    assert learned
    assert int(learned[1]) >= 475
    played = re.search(r"Mean return (\d+(?:\.\d+)?) \(95 % interval", text)
    assert played
    assert float(played[1]) >= 475
    assert bundle.open_bundle(bundle.find(tmp_path / "saved_models")).name == "cartpole-v1"
    (picture,) = tmp_path.glob("runs/*/learning_curve.png")
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    # It ends with commands to try, and every one of them exists.
    tries = re.findall(r"^  (?:python -m )?pgkeras (\w+)", text.partition("Try next:")[2], re.MULTILINE)
    assert tries == ["serve", "act", "train"]


def test_another_keras_backend_that_is_imported_is_named(tmp_path: Path) -> None:
    code = """
import sys, types
sys.modules["keras"] = keras = types.ModuleType("keras")
keras.backend = types.SimpleNamespace(backend=lambda: "jax")
import pgkeras.backend
"""
    assert "Keras runs on jax in this process" in python("-c", code, cwd=tmp_path).stderr


def test_keras_runs_on_tensorflow_and_draws_though_pyplot_is_imported_only_then(tmp_path: Path) -> None:
    code = """
import sys
import numpy as np
from pgkeras.backend import keras
print(keras.backend.backend(), "matplotlib.pyplot" in sys.modules)
images = np.zeros((1, 8, 8, 3))
keras.visualization.plot_image_gallery(images, value_range=(0, 1), rows=1, cols=1, path="drawn.png")
print("matplotlib.pyplot" in sys.modules)
"""
    result = python("-c", code, cwd=tmp_path, KERAS_BACKEND="jax", MPLBACKEND="agg")
    assert result.stdout.split() == ["tensorflow", "False", "True"], result.stderr
    assert (tmp_path / "drawn.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.skipif(sys.platform != "linux", reason="runs are forked on Linux alone")
def test_what_runs_are_forked_from_has_imported_tensorflow_and_has_no_threads_yet(tmp_path: Path) -> None:
    code = "import os, sys, pgkeras.cli.preload; print('tensorflow' in sys.modules, len(os.listdir('/proc/self/task')))"
    result = python("-c", code, cwd=tmp_path, OPENBLAS_NUM_THREADS="1")  # OpenBLAS ends its threads before a fork
    assert result.stdout.split() == ["True", "1"], result.stderr
