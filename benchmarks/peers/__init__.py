"""Other libraries on CartPole-v1 under pgkeras's criterion, in a separate virtual environment and process.

Solved means that the mean return of the last 100 training episodes reaches 475. Seconds are measured from the first
training step to the last one. Imports and setup (creating environments, network and optimizer) are reported separately.
Everything runs on the CPU, with each library's default number of threads (torch: one per core) unless ``run`` sets
another. With networks this small, several threads mostly wait for each other, especially on a busy machine, so a fair
comparison also tries one thread and takes the better result.

The virtual environment is exactly ``requirements.txt``, installed in one step with ``--no-deps``, because torch's
wheels for Linux are built for CUDA and require more of it than a CPU needs. They cannot be imported without any of it:
torch's shared libraries link against CUDA's. Those are listed, packages that only a GPU uses are not, and ``pip check``
reports the difference. The download is about 2.5 GB and the environment 5 GB, in ``$PGKERAS_PEERS`` or
``pgkeras/peers`` in the user's cache directory; delete it afterwards. SBX, which is Stable-Baselines3 in JAX, has a
second environment whose name ends in ``-sbx``, with ``requirements-sbx.txt`` in addition.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import tempfile
import tomllib
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["EXTERNAL", "PEERS", "SB3", "SBX", "budget", "environment", "run", "speed", "zoo"]

_HERE = Path(__file__).parent
_SCRIPTS = {
    "sb3-a2c": ("sb3.py", "a2c"),
    "sb3-ppo": ("sb3.py", "ppo"),
    "tianshou-reinforce": ("tianshou_reinforce.py", "reinforce"),
}
PEERS: tuple[str, ...] = tuple(_SCRIPTS)
EXTERNAL = "rllib-external"
"""The peer whose environment is an external simulator."""
_SCRIPTS[EXTERNAL] = ("rllib_external.py", "ppo")

SB3, SBX = "stable_baselines3", "sbx"
"""The packages of the libraries that :func:`budget` knows."""
_MARKER = "pgkeras-peers.json"  # the requirements that the environment was created from; written last
_STARTUP_SECONDS = 300  # for imports from a cold disk, before the peer's time limit starts


def environment(directory: Path | None = None, *, sbx: bool = False) -> Path:
    """Creates the peers' virtual environment unless it exists.

    Args:
        directory: Its directory. By default ``$PGKERAS_PEERS``, or ``pgkeras/peers`` in the user's cache directory.
        sbx: Whether to create the environment of SBX.

    Returns:
        The environment's Python interpreter.

    Raises:
        FileExistsError: The directory has other content.
        subprocess.CalledProcessError: pip failed. Its messages are on standard error.
    """
    directory = (directory or _default_directory()).expanduser().absolute()
    files = [_HERE / "requirements.txt"]
    if sbx:
        directory, files = directory.with_name(f"{directory.name}-sbx"), [*files, _HERE / "requirements-sbx.txt"]
    python = directory / "bin" / "python"
    wanted = {
        "python": platform.python_version(),
        "requirements": "".join(file.read_text() for file in files),
    }
    if directory.exists():
        marker = directory / _MARKER
        if not marker.exists():
            raise FileExistsError(
                f"{directory}: expected the peers' virtual environment, or nothing. Remove it or name another directory"
            )
        if json.loads(marker.read_text()) == wanted:
            return python
        shutil.rmtree(directory)

    directory.parent.mkdir(parents=True, exist_ok=True)
    print(f"Creating the peers' virtual environment in {directory} (once; downloads about 2.5 GB)", flush=True)
    # The interpreter finds its location at start-up, so a finished environment can be renamed.
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f"{directory.name}-") as temporary:
        unfinished = Path(temporary) / "environment"
        venv.create(unfinished, with_pip=True)
        # Without pip's cache, which would keep a second copy of the packages.
        options = ["--quiet", "--no-deps", "--no-cache-dir", "--only-binary=:all:", "--disable-pip-version-check"]
        command = [unfinished / "bin" / "python", "-m", "pip", "install", *options]
        command += [part for file in files for part in ("-r", file)]
        subprocess.run(command, check=True, env=_clean_environ())
        (unfinished / _MARKER).write_text(json.dumps(wanted))
        unfinished.rename(directory)
    return python


def run(
    python: Path, peer: str, seed: int, time_limit: float, max_steps: int, threads: int | None = None
) -> dict[str, Any]:
    """Trains one peer in a separate process.

    Args:
        python: The interpreter that ``environment`` returned.
        peer: One of ``PEERS``, or ``EXTERNAL``.
        seed: Seeds the peer's environments, network and sampling.
        time_limit: Seconds of training after which the run is stopped.
        max_steps: Environment steps after which the run is stopped.
        threads: Number of compute threads; by default the library's default.

    Returns:
        ``peer``, ``seed``, ``solved``, ``seconds`` (of training), ``steps`` (of the environments together),
        ``episodes``, ``mean_return_100`` (None before the first episode), ``import_seconds``, ``setup_seconds`` and
        ``versions`` (package to version).

    Raises:
        ValueError: The peer is unknown.
        subprocess.CalledProcessError: The peer failed. Its traceback is on standard error.
        subprocess.TimeoutExpired: The peer ran far beyond its time limit.
    """
    if peer not in _SCRIPTS:
        raise ValueError(f"peer {peer!r}: expected one of {', '.join(_SCRIPTS)}")
    script, algorithm = _SCRIPTS[peer]
    command = [python, _HERE / script, "--algorithm", algorithm, "--seed", str(seed)]
    command += ["--time-limit", str(time_limit), "--max-steps", str(max_steps)]
    environ = _clean_environ() | ({"OMP_NUM_THREADS": str(threads)} if threads is not None else {})
    process = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=time_limit + _STARTUP_SECONDS,
        env=environ,
    )
    return {"peer": peer, **json.loads(process.stdout.splitlines()[-1])}


def speed(python: Path, case: str, seed: int, steps: int, envs: int, threads: int) -> float:
    """Returns the steps per second of a peer's training, in a separate process.

    Args:
        python: The interpreter that ``environment`` returned.
        case: "cnn" for Stable-Baselines3's A2C, "lstm" for sb3-contrib's recurrent PPO.
        seed: Seeds environments, network and sampling.
        steps: Environment steps to train for.
        envs: Number of parallel environments.
        threads: Number of compute threads.

    Raises:
        subprocess.CalledProcessError: The peer failed; its traceback is on standard error.
    """
    command = [python, _HERE / "sb3_speed.py", case, "--steps", str(steps), "--envs", str(envs), "--seed", str(seed)]
    environ = _clean_environ() | {"OMP_NUM_THREADS": str(threads)}
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environ)
    return float(json.loads(process.stdout.splitlines()[-1])["steps_per_second"])


def budget(python: Path, asked: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Trains Stable-Baselines3 on one of ``benchmarks.cases`` for a budget of processor time, in a separate process.

    Args:
        python: The interpreter that ``environment`` returned.
        asked: ``case``, ``algorithm``, ``seed``, ``seconds``, ``episodes`` and ``evaluation_seed``; optionally
            ``library`` (``SBX`` for the same algorithms in JAX), ``settings`` of the algorithm (such as those of
            :func:`zoo`), and ``steps`` or ``stop_return``, at which training ends.
        environ: Environment variables in addition to those of this process.

    Returns:
        ``steps``, ``seconds``, ``last_100`` (mean training return; None before the first episode), ``greedy`` (mean
        return of the evaluation; None without episodes), ``curve`` (rows of seconds, steps and mean training return)
        and ``packages``.

    Raises:
        subprocess.CalledProcessError: The peer failed; its traceback is on standard error.
    """
    command = [python, _HERE / "sb3_budget.py"]
    process = subprocess.run(
        command,
        input=json.dumps(asked),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=_clean_environ() | {k: v for k, v in (environ or {}).items() if not k.startswith("PYTHON")},
    )
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return result


def zoo(algorithm: str, env_id: str) -> dict[str, Any]:
    """Returns RL Baselines3 Zoo's settings of "PPO" or "SAC", including ``n_envs`` and ``normalize``."""
    tables = tomllib.loads((_HERE / "zoo.toml").read_text())
    settings: dict[str, Any] = tables[algorithm][env_id]
    return settings


def _default_directory() -> Path:
    if named := os.environ.get("PGKERAS_PEERS"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "pgkeras" / "peers"


def _clean_environ() -> dict[str, str]:
    """Returns the environment variables, without those that would expose pgkeras's packages or a GPU."""
    return {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | {"CUDA_VISIBLE_DEVICES": ""}
