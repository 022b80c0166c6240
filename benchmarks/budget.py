"""Trains pgkeras or a peer for a budget of processor time. Every run is saved as a line of JSON.

The budget is processor time on one thread, not wall-clock time, because concurrent runs and a busy machine then do not
change the results. The setting ``time_limit`` is wall-clock time: such a run takes fewer steps on a busy machine.
Imports and setup are not counted for any library.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import peers
from benchmarks.cases import Case
from benchmarks.report import machine
from pgkeras.environments.default_config import CONTINUOUS, DISCRETE, LONGEST_EPISODE
from pgkeras.settings.config import Config, resolve
from pgkeras.settings.recipe import Recipe, WrapperCall

if TYPE_CHECKING:  # takes seconds to import, and only runs need it
    from pgkeras.runs.training import Training

__all__ = [
    "EPISODES",
    "EVALUATION_SEED",
    "NEVER",
    "by_settings",
    "config_of",
    "fill",
    "greedy_mean",
    "in_process",
    "parser_of_runs",
    "peer_for",
    "played",
    "train_for",
]

EPISODES = 30  # of the greedy evaluation
EVALUATION_SEED = 1_000_000
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "CUDA_VISIBLE_DEVICES": "",
}
NEVER = 1e9  # a stop return that no environment reaches
_ENDLESS = 10**12  # more steps than any run can take in the time
_POINTS = 100  # points of a curve
_INSTALLING = threading.Lock()


def parser_of_runs(
    doc: str | None, one: Sequence[str], only: Collection[str] = (), learners: Collection[str] = (), seeds: int = 3
) -> argparse.ArgumentParser:
    """Returns the argument parser of a benchmark whose runs are saved: which runs to make, and how many at once.

    Args:
        doc: The benchmark's docstring.
        one: Names of the values that identify a run, for ``--one``, with which :func:`in_process` runs it.
        only: The environments, for ``--only``; empty for no such option.
        learners: The learners, for ``--learners``; empty for no such option.
        seeds: Default number of seeds.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    explanation = "number of seeds, from 0 on; 0 only writes the page"
    parser.add_argument("--seeds", type=int, default=seeds, help=explanation)
    if only:
        parser.add_argument("--only", nargs="*", choices=only, default=list(only), help="run only these environments")
    if learners:
        parser.add_argument("--learners", nargs="*", choices=learners, default=list(learners), help="run only these")
    parser.add_argument("--jobs", type=int, default=2, help="number of concurrent runs")
    parser.add_argument("--one", nargs=len(one), metavar=tuple(one), help=argparse.SUPPRESS)
    return parser


def config_of(case: Case, seed: int, settings: Mapping[str, Any], preset: str | None = None) -> Config:
    """Returns the settings of a run that only its budget ends.

    Args:
        case: The environment.
        seed: Seed of the run.
        settings: Settings in addition to those of the preset and the case.
        preset: The preset. By default the one for the case's kind of actions, which environments without a preset use.
    """
    fixed = {"seed": seed, "stop_return": NEVER, "steps": _ENDLESS}
    environment = {"env_kwargs": dict(case.kwargs) or None, "wrappers": case.wrappers}
    limit = {"max_episode_steps": LONGEST_EPISODE} if case.is_unlimited else {}
    preset = preset or (CONTINUOUS if case.continuous else DISCRETE)
    return resolve(case.env_id, preset, {**fixed, **environment, **limit, **case.settings, **settings})


def by_settings(run: Mapping[str, Any], config: Config) -> bool:
    """Whether a saved run has these settings. Settings that were added later count as their defaults."""
    return Config.from_json({**Config(env_id=config.env_id).to_json(), **run["config"]}) == config


def played(case: Case) -> Recipe:
    """Returns the environment of a case for evaluations."""
    return Recipe(case.env_id, case.kwargs, tuple(WrapperCall(name) for name in case.wrappers), case.evaluation_steps)


def train_for(case: Case, config: Config, seconds: float, episodes: int = EPISODES, **more: Any) -> dict[str, Any]:
    """Trains for some seconds of processor time, and plays greedy episodes with the resulting policy.

    Args:
        case: The environment.
        config: The settings.
        seconds: Processor time; infinity if only the steps end the run.
        episodes: Number of greedy episodes.
        **more: Further arguments of :class:`pgkeras.runs.training.Training`.

    Returns:
        ``steps``, ``seconds``, ``last_100`` (mean training return), ``greedy`` (mean return of the evaluation),
        ``curve`` (rows of seconds, steps and mean training return), ``config`` and ``packages``.
    """
    from pgkeras.policy.export import package_versions
    from pgkeras.runs.training import Training

    training = Training(config, **more)
    began = time.process_time()

    def look(*_: int) -> None:
        if time.process_time() - began >= seconds:
            training.interrupt()

    training.on_progress = look
    curve = []
    for metrics in training:
        curve.append((round(time.process_time() - began, 2), metrics.env_steps, metrics.mean_return_100))
        look()
    spent = time.process_time() - began
    training.finish()
    return {
        "steps": training.env_steps,
        "seconds": spent,
        "last_100": training.mean_return_100,
        "greedy": greedy_mean(training, played(case), episodes),
        "curve": curve[:: max(1, len(curve) // _POINTS)],
        "config": config.to_json(),
        "packages": package_versions(),
    }


def greedy_mean(training: Training, recipe: Recipe, episodes: int, slots: int = EPISODES, which: str = "best") -> float:
    """Returns the mean return of greedy episodes with the policy that a run exports.

    Args:
        training: The run.
        recipe: The environment.
        episodes: Number of episodes.
        slots: Number of parallel environments.
        which: "best" or "last"; see :meth:`pgkeras.Training.export`.
    """
    from pgkeras import engines, environments, evaluation

    with tempfile.TemporaryDirectory() as root:
        exported = training.export(root, which=which)
        actor = evaluation.EngineActor(exported.spec, engines.load(exported), "greedy")
    envs = environments.make(recipe, slots, "plain")
    return evaluation.evaluate(actor, envs, episodes, EVALUATION_SEED).mean


def peer_for(
    case: Case, algorithm: str, seed: int, seconds: float, library: str = peers.SB3, **more: Any
) -> dict[str, Any]:
    """Like :func:`train_for` with an algorithm of Stable-Baselines3 or SBX; see :func:`benchmarks.peers.budget`.

    Raises:
        RuntimeError: The peers' environment cannot be installed. All other runs of peers would fail, too.
        subprocess.CalledProcessError: The run failed.
    """
    asked = {"library": library, "case": asdict(case), "algorithm": algorithm, "seed": seed, "seconds": seconds}
    asked |= {"episodes": EPISODES, "evaluation_seed": EVALUATION_SEED, **more}
    with _INSTALLING:  # the first run installs; the others wait
        try:
            python = peers.environment(sbx=library == peers.SBX)
        except subprocess.CalledProcessError as error:
            raise RuntimeError("the peers' environment cannot be installed; pip's messages are above") from error
    return peers.budget(python, asked, {**os.environ, **_ONE_THREAD})


def in_process(module: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Runs a benchmark module in a separate process with one thread. Returns the JSON of its last line.

    Raises:
        subprocess.CalledProcessError: The process failed. Its traceback is on standard error.
    """
    command = [sys.executable, "-m", module, *arguments]
    environ = {**os.environ, **_ONE_THREAD}
    process = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=environ)
    outcome: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return outcome


def fill(
    file: Path,
    wanted: Iterable[Mapping[str, Any]],
    run: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    jobs: int,
    is_current: Callable[[dict[str, Any]], bool],
) -> list[dict[str, Any]]:
    """Makes the wanted runs that are missing from the file, and appends each result as soon as it is available.

    Args:
        file: The file of saved runs.
        wanted: The values that identify each run. They become part of its line.
        run: Makes one run.
        jobs: Number of concurrent runs.
        is_current: Whether a saved run has the current settings. Others count as missing.

    Returns:
        The runs of the file that are current.
    """

    def is_missing(which: Mapping[str, Any]) -> bool:
        return not any(which.items() <= kept.items() for kept in current)

    def one(which: Mapping[str, Any]) -> None:
        try:
            outcome = run(which)
        except subprocess.CalledProcessError as error:  # the other runs continue
            print(f"{dict(which)}: exit status {error.returncode}", file=sys.stderr, flush=True)
            return
        with file.open("a") as stream:
            stream.write(json.dumps({**which, **outcome, "machine": machine()}) + "\n")
        print({**which} | {key: outcome[key] for key in ("steps", "last_100", "greedy")}, flush=True)

    current = [kept for kept in _read(file) if is_current(kept)]
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, [which for which in wanted if is_missing(which)]))
    return [kept for kept in _read(file) if is_current(kept)]


def _read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
