"""Other libraries on CartPole-v1 under pgkeras's criterion, in a virtual environment and a process of their own.

Solved means that the mean return of the last 100 training episodes reaches 475. Seconds run from the first step of
training to the step that ends it; imports and setup (making environments, network and optimiser) are reported apart.
Everything runs on the CPU, with each library's own default number of threads (torch: one a core) unless ``run`` is told
another. On networks this small several threads mostly wait for each other, and all the more while anything else wants
the cores, so a fair comparison tries one thread too and takes the better.

The environment is exactly ``requirements.txt``, installed in one step with ``--no-deps``, because torch's wheels for
Linux are built for CUDA and ask for more of it than a CPU needs. They can't be imported without any: torch's shared
libraries link against CUDA's, and the loader wants those present. So those are listed, what only a GPU would open is
not, and ``pip check`` names the difference. That comes to about 2.5 GB to download and 5 GB on disk, kept in
``$PGKERAS_PEERS`` or else in ``pgkeras/peers`` in the user's cache directory; delete it when done. SBX, which is
Stable-Baselines3 in JAX, has another beside it, whose name ends in ``-sbx``: ``requirements-sbx.txt`` on top.
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
_MARKER = "pgkeras-peers.json"  # what the environment was made from; written last
_STARTUP_SECONDS = 300  # for imports on a cold disk, before the peer's own time limit begins


def environment(directory: Path | None = None, *, sbx: bool = False) -> Path:
    """Makes the peers' virtual environment unless it is there already.

    Args:
        directory: Where it lives. By default ``$PGKERAS_PEERS``, or ``pgkeras/peers`` in the user's cache directory.
        sbx: Whether it is the one of SBX.

    Returns:
        Its Python interpreter.

    Raises:
        FileExistsError: The directory holds something else.
        subprocess.CalledProcessError: pip failed; its messages are on standard error.
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
    print(f"Making the peers' virtual environment in {directory} (once; downloads about 2.5 GB)", flush=True)
    # Its interpreter finds its own place at start-up, so a finished environment may be renamed.
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f"{directory.name}-") as temporary:
        unfinished = Path(temporary) / "environment"
        venv.create(unfinished, with_pip=True)
        # What is unpacked is kept; a second copy in pip's cache would cost its size again.
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
    """Trains one peer in a process of its own.

    Args:
        python: The interpreter that ``environment`` returned.
        peer: One of ``PEERS``, or ``EXTERNAL``.
        seed: Seeds the peer's environments, network and sampling.
        time_limit: Seconds of training after which the run is given up.
        max_steps: Environment steps after which the run is given up.
        threads: How many threads computation gets; by default as many as the library takes.

    Returns:
        ``peer``, ``seed``, ``solved``, ``seconds`` (of training), ``steps`` (of the environments together),
        ``episodes``, ``mean_return_100`` (None before the first episode), ``import_seconds``, ``setup_seconds`` and
        ``versions`` (package to version).

    Raises:
        ValueError: There is no such peer.
        subprocess.CalledProcessError: The peer failed; its traceback is on standard error.
        subprocess.TimeoutExpired: The peer ran on far beyond its time limit.
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
    """Steps per second of a peer's training, in a process of its own.

    Args:
        python: The interpreter that ``environment`` returned.
        case: "cnn" for Stable-Baselines3's A2C, "lstm" for sb3-contrib's recurrent PPO.
        seed: Seeds environments, network and sampling.
        steps: Environment steps to train for.
        envs: How many environments it plays at once.
        threads: How many threads computation gets.

    Raises:
        subprocess.CalledProcessError: The peer failed; its traceback is on standard error.
    """
    command = [python, _HERE / "sb3_speed.py", case, "--steps", str(steps), "--envs", str(envs), "--seed", str(seed)]
    environ = _clean_environ() | {"OMP_NUM_THREADS": str(threads)}
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environ)
    return float(json.loads(process.stdout.splitlines()[-1])["steps_per_second"])


def budget(python: Path, asked: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Trains Stable-Baselines3 on one of ``benchmarks.cases`` for as much processor time, in a process of its own.

    Args:
        python: The interpreter that ``environment`` returned.
        asked: ``case``, ``algorithm``, ``seed``, ``seconds``, ``episodes`` and ``evaluation_seed``; if need be
            also ``library`` (``SBX`` for the same algorithms in JAX), ``settings`` of the algorithm (those of
            :func:`zoo`), and ``steps`` or ``stop_return``, at which training ends.
        environ: Environment variables beside one's own.

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
    """RL Baselines3 Zoo's settings of "PPO" or "SAC" for an environment, ``n_envs`` and ``normalize`` among them."""
    tables = tomllib.loads((_HERE / "zoo.toml").read_text())
    settings: dict[str, Any] = tables[algorithm][env_id]
    return settings


def _default_directory() -> Path:
    if named := os.environ.get("PGKERAS_PEERS"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "pgkeras" / "peers"


def _clean_environ() -> dict[str, str]:
    """The environment variables, without those that would let pgkeras's own packages or a GPU in."""
    return {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | {"CUDA_VISIBLE_DEVICES": ""}
