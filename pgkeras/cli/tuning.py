"""The search of ``pgkeras tune``: trials in separate processes, which Optuna suggests and prunes."""

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

_POLL_SECONDS = 0.5
_REPORTS = 10  # number of reports per run, at equal shares of its budget
_STARTUP_TRIALS = 5  # number of trials that are never pruned, for comparison
_STUDY = "study.log"
_FAILURE = "failure"  # attribute with the reason of a failure; missing if the trial was interrupted


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of a trial.

    Args:
        number: Number of the trial.
        score: Mean return of the last 100 episodes, averaged over the seeds; NaN if it was pruned or failed.
        settings: Changed settings, written as ``--set`` takes them; empty for the initial settings.
        state: "complete", "pruned", or "failed: " and the reason.
    """

    number: int
    score: float
    settings: Mapping[str, str]
    state: str


class _InterruptedError(PgkerasError):
    """The search was stopped during a trial."""


class Tuning:
    """A search for settings. An interrupted search continues in the same directory.

    Args:
        config: The initial settings. All runs have their ``steps`` and ``time_limit``.
        space: The settings to vary.
        seeds: The seeds of every trial.
        directory: Directory of the runs and the state of the search.
        jobs: Number of concurrent trials.

    Raises:
        RunError: The directory contains a different or a running search, or cannot be written to.
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
            f"another search is running in {directory}; wait for its end, or give another --out",
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
        # A new seed, so that a continued search does not repeat its suggestions.
        self._study.sampler = optuna.samplers.TPESampler(seed=config.seed + len(self._study.get_trials()))
        self._check_budget()

    def _check_budget(self) -> None:
        """Stores the settings that all trials share, and refuses others, whose scores would not be comparable."""
        asked = json.loads(json.dumps({**self._config.to_json(), "seeds": self._seeds}))  # as the study stores it
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
        """Runs trials until there are enough, or the time has passed.

        Args:
            trials: Total number of trials, including those of earlier calls.
            seconds: Time after which no new trial is started.
            tell: Called with the outcome of each trial.
        """
        due = math.inf if seconds is None else time.monotonic() + seconds
        for trial in self._study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
            self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)  # its process has ended

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
        """Returns all ended trials, best first."""
        found = [_outcome(trial) for trial in self._ended()]
        return sorted(found, key=lambda outcome: -math.inf if math.isnan(outcome.score) else outcome.score)[::-1]

    def importances(self) -> dict[str, float]:
        """Returns the importance of each setting by PED-ANOVA, highest first; empty after too few trials."""
        complete = [t for t in self._study.get_trials() if t.state == optuna.trial.TrialState.COMPLETE and t.params]
        if len(complete) < _STARTUP_TRIALS:
            return {}
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the low precision with few trials
            found: dict[str, float] = optuna.importance.get_param_importances(self._study, evaluator=evaluator)
        return found

    def with_settings(self, settings: Mapping[str, str]) -> Config:
        """Returns the initial settings with those of a trial applied.

        Raises:
            ConfigError: The settings contradict each other.
        """
        changed = assignments(f"{name}={value}" for name, value in settings.items())
        return Config.from_json(overlay(self._config.to_json(), changed))

    def _ended(self) -> list[Any]:
        """Returns the ended trials, without those that were interrupted when the search was stopped."""
        states = optuna.trial.TrialState
        ended = self._study.get_trials(states=[states.COMPLETE, states.PRUNED, states.FAIL])
        return [trial for trial in ended if trial.state != states.FAIL or _FAILURE in trial.user_attrs]

    def _has_begun(self) -> bool:
        """Whether a trial with the initial settings has ended or is running."""
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
        except _InterruptedError:
            ended = self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        except PgkerasError as error:
            trial.set_user_attr(_FAILURE, str(error))
            ended = self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            ended = self._study.tell(trial, sum(scores) / len(scores))
        return _outcome(ended)

    def _run(self, trial: Any, config: Config, number: int) -> float:
        """Trains with one of the seeds. The first seed decides about pruning."""
        config = dataclasses.replace(config, seed=self._seeds[number])
        path = self._directory / f"trial-{trial.number}" / f"seed-{config.seed}"
        process = start(config, path)
        reported = 0
        try:
            while process.is_alive():
                process.join(_POLL_SECONDS)
                if self._stopped:
                    raise _InterruptedError
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
    return Outcome(trial.number, math.nan, settings, f"failed: {trial.user_attrs.get(_FAILURE, 'it was interrupted')}")
