"""The search of ``pgkeras tune``: trials in processes of their own, which Optuna suggests, follows and prunes."""

from __future__ import annotations

import dataclasses
import json
import math
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pgkeras.cli.background import failure_of, prepare, start
from pgkeras.errors import MissingExtraError, PgkerasError, RunError
from pgkeras.files import hold
from pgkeras.runs import directory as runs
from pgkeras.runs.stopping import share_of_limits
from pgkeras.settings.config import Config, assignments, overlay
from pgkeras.settings.search import Dimension, settings_of

try:
    import optuna
    from optuna.storages.journal import JournalFileBackend
except ImportError as error:
    raise MissingExtraError("optuna", "tune", "tune settings") from error

__all__ = ["Outcome", "Tuning"]

_LOOK_SECONDS = 0.5
_REPORTS = 10  # a run tells so many times how it does, at even shares of its budget
_STARTUP_TRIALS = 5  # that are not pruned, to have something to compare with
_STUDY = "study.log"
_FAILURE = "failure"  # why a trial failed, in what is kept with it; without it, it was broken off


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a trial came to.

    Args:
        number: Its number.
        score: The mean over its seeds of the mean return of the last 100 episodes; NaN if it was pruned or failed.
        settings: What it changes, as ``--set`` takes it; empty for the settings that the search began with.
        state: "complete", "pruned" or "failed: " and why.
    """

    number: int
    score: float
    settings: Mapping[str, str]
    state: str


class _BrokenOffError(PgkerasError):
    """The search was stopped meanwhile."""


class Tuning:
    """A search. One that has been stopped goes on in the same directory.

    Args:
        config: The settings to begin with; every run has their ``steps`` and ``time_limit``.
        space: What to vary.
        seeds: The seeds of every trial.
        directory: Where runs and the search's state are kept.
        jobs: How many trials at once.

    Raises:
        RunError: The directory holds the search of another environment, or one that is under way, or cannot be written.
    """

    def __init__(
        self, config: Config, space: Mapping[str, Dimension], seeds: list[int], directory: Path, jobs: int
    ) -> None:
        self._config, self._space, self._seeds = config, space, seeds
        self._directory, self._jobs = directory, jobs
        self._stopped = False
        self._asking = threading.Lock()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._lock = hold(
            directory,
            "directory",
            f"another search is under way in {directory}; wait until it has ended, or give another --out",
        )
        backend = JournalFileBackend(str(directory / _STUDY))
        self._study = optuna.create_study(
            study_name="pgkeras",
            storage=optuna.storages.JournalStorage(backend),
            load_if_exists=True,
            direction="maximize",
            sampler=optuna.samplers.TPESampler(),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS, n_warmup_steps=2),
        )
        # A search that goes on suggests others than it did.
        self._study.sampler = optuna.samplers.TPESampler(seed=config.seed + len(self._study.get_trials()))
        self._check_budget()

    def _check_budget(self) -> None:
        """Keeps what every trial has in common, and refuses to go on by anything else: scores would not compare."""
        asked = json.loads(json.dumps({**self._config.to_json(), "seeds": self._seeds}))  # as the study keeps it
        began = self._study.user_attrs.get("began")
        if began is None:
            self._study.set_user_attr("began", asked)
            return
        if began["env_id"] != self._config.env_id:
            raise RunError(f"{self._directory} holds a search for {began['env_id']}; give another --out")
        for name, value in asked.items():
            if (before := began.get(name, value)) != value:
                raise RunError(
                    f"{self._directory} holds a search with {name}={before}, not {value}; give another --out"
                )

    def search(self, trials: int, seconds: float | None, tell: Callable[[Outcome], None]) -> None:
        """Runs trials until there are enough or the time is over; those of before count.

        Args:
            trials: How many in all.
            seconds: For how long new ones are begun.
            tell: Is told of each that ends.
        """
        due = math.inf if seconds is None else time.monotonic() + seconds
        for trial in self._study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
            self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)  # whoever ran it is gone

        def work(_: int) -> None:
            while not self._stopped and time.monotonic() < due and len(self._ended()) + self._running < trials:
                self._running += 1
                try:
                    tell(self._try())
                finally:
                    self._running -= 1

        prepare()
        self._running = 0
        with ThreadPoolExecutor(self._jobs) as pool:
            try:
                list(pool.map(work, range(self._jobs)))
            except BaseException:
                self._stopped = True
                raise

    def outcomes(self) -> list[Outcome]:
        """All trials that have ended, the best first."""
        found = [_outcome(trial) for trial in self._ended()]
        return sorted(found, key=lambda outcome: -math.inf if math.isnan(outcome.score) else outcome.score)[::-1]

    def importances(self) -> dict[str, float]:
        """How much each setting has mattered, the most first, by PED-ANOVA; empty after too few trials."""
        complete = [t for t in self._study.get_trials() if t.state == optuna.trial.TrialState.COMPLETE and t.params]
        if len(complete) < _STARTUP_TRIALS:
            return {}
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that few trials make for rough figures
            found: dict[str, float] = optuna.importance.get_param_importances(self._study, evaluator=evaluator)
        return found

    def with_settings(self, settings: Mapping[str, str]) -> Config:
        """The settings to begin with, changed by those of a trial.

        Raises:
            ConfigError: They do not go together.
        """
        changed = assignments(f"{name}={value}" for name, value in settings.items())
        return Config.from_json(overlay(self._config.to_json(), changed))

    def _ended(self) -> list[Any]:
        """The trials that came to something: not those that were broken off when a search was stopped."""
        states = optuna.trial.TrialState
        ended = self._study.get_trials(states=[states.COMPLETE, states.PRUNED, states.FAIL])
        return [trial for trial in ended if trial.state != states.FAIL or _FAILURE in trial.user_attrs]

    def _has_begun(self) -> bool:
        """Whether a trial has, or is at, the settings to begin with, which all others are compared with."""
        running = self._study.get_trials(states=[optuna.trial.TrialState.RUNNING])
        return any(trial.user_attrs.get("settings") == {} for trial in [*self._ended(), *running])

    def _try(self) -> Outcome:
        with self._asking:
            begins = not self._has_begun()
            trial = self._study.ask()
            settings = {} if begins else settings_of(trial, self._space)
            trial.set_user_attr("settings", settings)
        try:
            scores = [self._run(trial, self.with_settings(settings), i) for i in range(len(self._seeds))]
        except optuna.TrialPruned:
            ended = self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        except _BrokenOffError:
            ended = self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        except PgkerasError as error:
            trial.set_user_attr(_FAILURE, str(error))
            ended = self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            ended = self._study.tell(trial, sum(scores) / len(scores))
        return _outcome(ended)

    def _run(self, trial: Any, config: Config, number: int) -> float:
        """Trains with one of the seeds; prunes the trial by its first."""
        config = dataclasses.replace(config, seed=self._seeds[number])
        path = self._directory / f"trial-{trial.number}" / f"seed-{config.seed}"
        process = start(config, path)
        reported = 0
        try:
            while process.is_alive():
                process.join(_LOOK_SECONDS)
                if self._stopped:
                    raise _BrokenOffError
                if number == 0:
                    reported = self._report(trial, path, config, reported)
        finally:
            if process.is_alive():
                process.kill()  # what it would leave, nobody reads
                process.join()
        if process.exitcode:
            raise RunError(failure_of(path, process.exitcode))
        last = runs.read_last_epoch(path)
        if last is None:
            raise RunError("it ended before its first epoch was over")
        return float(last["mean_return_100"])

    def _report(self, trial: Any, path: Path, config: Config, reported: int) -> int:
        last = runs.read_last_epoch(path)
        if last is None:
            return reported
        step = int(_REPORTS * share_of_limits(config, int(last["env_steps"]), last["seconds"]))
        if step > reported:
            trial.report(last["mean_return_100"], step)
            if trial.user_attrs["settings"] and trial.should_prune():
                raise optuna.TrialPruned
        return max(step, reported)


def _outcome(trial: Any) -> Outcome:
    states = optuna.trial.TrialState
    settings = trial.user_attrs.get("settings", {})
    if trial.state == states.COMPLETE:
        return Outcome(trial.number, float(trial.value), settings, "complete")
    if trial.state == states.PRUNED:
        return Outcome(trial.number, math.nan, settings, "pruned")
    return Outcome(trial.number, math.nan, settings, f"failed: {trial.user_attrs.get(_FAILURE, 'it was broken off')}")
