"""Training: the loop over epochs. :class:`pgkeras.runs.phases.Phases` runs one epoch."""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.backend import keras, tf
from pgkeras.bundle.bundle import Bundle
from pgkeras.environments.default_config import check_effect_here, config_for
from pgkeras.errors import ConfigError
from pgkeras.evaluation.evaluation import Evaluation
from pgkeras.files import check_encoding
from pgkeras.policy.export import check_exportable
from pgkeras.policy.policy import Policy
from pgkeras.reinforce.frozen_policy import FrozenPolicy
from pgkeras.reinforce.learner import Learner
from pgkeras.reinforce.replicas import Replicas
from pgkeras.runs import directory as runs
from pgkeras.runs import films, plotting, results, resuming
from pgkeras.runs.callbacks import Best, Callback, Callbacks, evaluation_modes
from pgkeras.runs.checkpoints import BEST, LAST
from pgkeras.runs.counters import Counters
from pgkeras.runs.evaluator import Evaluator
from pgkeras.runs.loggers.base import CURVE
from pgkeras.runs.metrics import EpochMetrics
from pgkeras.runs.notebook import with_progress_bar
from pgkeras.runs.phases import EpochDropped, Phases
from pgkeras.runs.shared import SharedEpisodes
from pgkeras.runs.sources import EpisodeSource, source_of
from pgkeras.settings.config import Config
from pgkeras.settings.effect import check_effect

__all__ = ["EpochMetrics", "Training", "train"]

logger = logging.getLogger(__name__)

# A step reads all weights: tens of milliseconds at a few gigabytes per second.
_MANY_WEIGHTS = 20_000_000


class Training:
    """A training run. Each iteration over it trains one epoch. It implements :class:`pgkeras.runs.run.Run`.

    Args:
        config: Settings.
        directory: Directory for the run's files; None to write no files.
        network: A Keras model from observations to features, which replaces the configured network.
        callbacks: Callbacks, called after the stop conditions and before evaluations.
        resume: Whether to resume the run in the directory.
        checkpoint: The checkpoint to resume from: "last", "best", or its number of finished epochs.
        source: Source of episodes, if it is not the configured environment.
        devices: Replaces the setting ``devices``; see :class:`pgkeras.settings.groups.StepSettings`.

    Attributes:
        resumed_from: Number of epochs finished before this run was resumed; 0 for a new run.

    Raises:
        ConfigError: A setting is invalid, such as an unknown optimizer or activation.
        EnvironmentSetupError: The environment cannot be created.
        UnsupportedSpaceError: A space of the environment is not supported.
        RunError: The directory is not writable, or contains no run to resume.
    """

    def __init__(
        self,
        config: Config,
        directory: Path | None = None,
        *,
        network: keras.Model | None = None,
        callbacks: Sequence[Callback] = (),
        resume: bool = False,
        checkpoint: str = LAST,
        source: EpisodeSource | None = None,
        devices: str | None = None,
    ) -> None:
        self._started_at = time.perf_counter()
        if directory is not None:
            directory = directory.absolute()  # an environment may change the working directory
            check_encoding(directory)
        _check(network, callbacks)
        self.config = config
        self._replicas = Replicas.of(config.devices if devices is None else devices)
        self._source = self._find_source(source)
        self.directory: runs.RunDirectory | None = None
        try:
            self._set_up(directory, network, callbacks, checkpoint if resume else None)
        except BaseException:
            if self.directory is not None:  # otherwise it stays locked while the exception is referenced
                self.directory.close()
            if source is None:  # the caller has no reference to it, and it may own processes or a cluster
                self._close_source()
            raise
        self.setup_seconds = time.perf_counter() - self._started_at

    def _set_up(
        self, directory: Path | None, network: keras.Model | None, callbacks: Sequence[Callback], checkpoint: str | None
    ) -> None:
        """Creates everything except the source, and restores the checkpoint if one is given."""
        config, resume = self.config, checkpoint is not None
        self._resumed, self._started = resume, False
        self.stop_return = self._source.reward_threshold if config.stop_return is None else config.stop_return
        spaces = self._source.observation_space, self._source.action_space
        self._learner = Learner(config, *spaces, network, self._source.mask_size, self._replicas)
        self._learner.warm_up()
        self.policy = self._learner.policy
        _warn_of_size(self.policy)
        if network is not None:  # the built-in networks are covered by tests
            check_exportable(self.policy)
        # Ray's actors run without TensorFlow.
        engine = "litert" if config.collect == "ray" else config.act_engine
        self._frozen = FrozenPolicy(self.policy, engine)
        self._callbacks = Callbacks(config, self.stop_return, callbacks)
        self._counters = Counters()
        self._phases = Phases(
            config, self._source, self._learner, self._frozen, self._counters, alone=self.processes == 1
        )
        self._evaluator = Evaluator(
            self._source,
            self.policy,
            engine,
            self._frozen,
            evaluation_modes(config),
            lambda: self.interrupted,
        )
        self.stop_reason: str | None = None
        self.best: Best | None = None
        self._reported: dict[str, float] = {}
        self._bundle: Bundle | None = None
        self._epochs: list[EpochMetrics] = []  # for the learning curve of a run without a directory
        if directory is not None and self.leads:
            self.directory = runs.RunDirectory(directory, config.keep_checkpoints, config.loggers, resume=resume)
        self._checkpoint_due = config.checkpoint_seconds
        self._restore_all(checkpoint)
        self.resumed_from = self.epoch
        if self.directory is not None and not resume:
            self.checkpoint()  # every run has a checkpoint to resume from
            self.directory.write_config(self._description())  # this file marks the directory as a run

    def _find_source(self, given: EpisodeSource | None) -> EpisodeSource:
        if self.processes == 1:
            return source_of(self.config) if given is None else given
        assert self._replicas is not None
        if given is not None:
            raise ConfigError(
                "devices: simulators connect to one process; use one process with the GPUs of its machine"
            )
        return SharedEpisodes(self.config, self._replicas)

    def _restore_all(self, checkpoint: str | None) -> None:
        """Restores the checkpoint, if one is given, in all processes of the training."""
        if checkpoint is not None and self.directory is not None:
            self._restore(self.directory.checkpoints.read(checkpoint))
            self.best = resuming.read_best(self.directory, checkpoint, self.config, self._learner, self.epoch)
        if self.processes > 1:
            assert self._replicas is not None
            states = self._replicas.gather(self._state() if self.leads else {})
            self._restore(states[0])

    def __repr__(self) -> str:
        last = f", mean return {self.mean_return_100:.4g}" if self.episodes else ""
        return f"<Training of {self.config.env_id}: epoch {self.epoch}, {self.env_steps:,} steps{last}>"

    def _repr_png_(self) -> bytes | None:
        """Returns the learning curve as a PNG image, for notebooks."""
        if not self.epoch:
            return None
        with tempfile.TemporaryDirectory() as scratch:
            self._draw_curve(Path(scratch) / runs.CURVE)
            return (Path(scratch) / runs.CURVE).read_bytes()

    @property
    def processes(self) -> int:
        """Number of processes that train together."""
        return 1 if self._replicas is None else self._replicas.processes

    @property
    def leads(self) -> bool:
        """See :attr:`Run.leads`."""
        return self._replicas is None or self._replicas.process == 0

    @property
    def epoch(self) -> int:
        """See :attr:`Run.epoch`."""
        return self._counters.epoch

    @property
    def env_steps(self) -> int:
        """See :attr:`Run.env_steps`."""
        return self._counters.env_steps

    @property
    def episodes(self) -> int:
        """See :attr:`Run.episodes`."""
        return self._counters.episodes

    @property
    def seconds(self) -> float:
        """See :attr:`Run.seconds`."""
        return self._counters.seconds

    @property
    def mean_return_100(self) -> float:
        """See :attr:`Run.mean_return_100`."""
        return self._counters.mean_return_100

    @property
    def device(self) -> str:
        """The device of the gradient step, such as "GPU: NVIDIA H100" or "CPU"."""
        gpus = tf.config.list_physical_devices("GPU")
        if self._replicas is not None:
            where = f" of {self.processes} processes" if self.processes > 1 else ""
            return f"{self._replicas.count} {'GPU' if gpus else 'CPU'}s{where}"
        if not gpus:
            return "CPU"
        return f"GPU: {tf.config.experimental.get_device_details(gpus[0]).get('device_name', gpus[0].name)}"

    @property
    def act_engine(self) -> str:
        """The engine that computes actions during rollouts: "litert" or "tensorflow"."""
        return self._frozen.engine

    @property
    def solved_at(self) -> tuple[float, int] | None:
        """Training seconds and environment steps at which ``stop_return`` was reached; None before."""
        return self._callbacks.solved_at

    @property
    def finished(self) -> bool:
        """Whether the run has a reason to stop: a limit, a solved environment, or a callback's request."""
        return self.stop_reason is not None

    @property
    def interrupted(self) -> bool:
        """Whether to stop evaluating. Always false with several processes, which would wait for this one's episodes."""
        return self._phases.interrupted and self.processes == 1

    def stop(self, reason: str) -> None:
        """See :meth:`Run.stop`."""
        self.stop_reason = self.stop_reason or reason

    def interrupt(self) -> None:
        """Drops the epoch whose episodes are being played, and ends the run. Signal handlers may call it."""
        self._phases.interrupted = True

    @property
    def on_progress(self) -> Callable[[int, int, int], None] | None:
        """Optional function, called at most 10 times per second while episodes are played.

        Its arguments are the steps, the finished episodes and the total episodes of the current epoch.
        """
        return self._phases.on_progress

    @on_progress.setter
    def on_progress(self, called: Callable[[int, int, int], None] | None) -> None:
        self._phases.on_progress = called

    def report(self, **values: float) -> None:
        """See :meth:`Run.report`."""
        self._reported.update({name: float(value) for name, value in values.items()})  # NumPy scalars are not JSON

    def __iter__(self) -> Iterator[EpochMetrics]:
        """Trains until the run is finished, and yields the metrics of each epoch.

        Raises:
            EnvironmentStepError: The environment failed.
            TrainingError: The loss or the gradient is not finite. The last checkpoint is intact.
        """
        if not self._started:
            if self.directory is not None:
                self._open_directory(self.directory)
            self._started = True
            for callback in self._callbacks.before:
                callback.on_start(self)
            self._start_evaluations()
        while not self._is_over():
            try:
                metrics = self._phases.run()
            except EpochDropped as dropped:
                if dropped.reason is not None:
                    self.stop(dropped.reason)
                break
            yield self._close_epoch(metrics)

    def _open_directory(self, directory: runs.RunDirectory) -> None:
        """Passes the settings to the loggers, drops the records of later epochs, then writes changed settings.

        A logger may refuse the run, so the settings are written last. They are not written if a run is only exported.
        """
        is_changed = directory.config() != self.config.to_json()
        config = self._description() if is_changed else runs.read_config(directory.path)
        directory.begin(config, self.epoch)
        directory.forget_after(self.epoch, self.env_steps, best=self.best is None)
        if is_changed:
            directory.write_config(config)

    def _start_evaluations(self) -> None:
        """Repeats the last epoch's evaluation if it was interrupted, and adds its results to that epoch's record."""
        self._reported = {}
        for callback in self._callbacks.evaluations:
            with suppress(EpochDropped):  # interrupted again
                callback.on_start(self)
        if self._reported and self.directory is not None:
            self.directory.amend_epoch(self.epoch, self._reported)

    def _is_over(self) -> bool:
        """Returns whether any process of the training ends after the last epoch."""
        return self._agree_over(self.finished or self._phases.interrupted)

    def _agree_over(self, over: bool) -> bool:
        """Returns whether the run is over in any process, and stops it in all of them in that case."""
        if self.processes > 1:
            assert self._replicas is not None
            over = self._replicas.agree(over)
            if over and not self.finished:
                self.stop("a process of the training was stopped")
        return over

    def _close_epoch(self, metrics: EpochMetrics) -> EpochMetrics:
        self._reported = {}
        self._source.note(metrics.epoch, metrics.env_steps, metrics.return_mean, metrics.entropy)
        try:
            self._notify(self._callbacks.before, metrics)
            if self._callbacks.evaluations:  # all processes play them: each must know whether this epoch is the last
                self._agree_over(self.finished)
            self._notify(self._callbacks.evaluations, metrics)
        finally:  # the epoch counts even if a callback raises
            metrics = replace(metrics, reported=self._reported)
            if self.directory is not None:
                self.directory.write_epoch(metrics.record())
            else:
                self._epochs.append(metrics)
        if self.directory is not None and self.seconds >= self._checkpoint_due:
            self.checkpoint()
        return metrics

    def _notify(self, callbacks: Iterable[Callback], metrics: EpochMetrics) -> None:
        for callback in callbacks:
            with suppress(EpochDropped):  # an interruption ends the evaluation, but the epoch counts
                callback.on_epoch(self, metrics)

    def finish(self) -> None:
        """Calls the callbacks, closes the environments, and writes the last checkpoint, summary and learning curve.

        If the gradient step of an epoch failed, the checkpoint before it is kept. A resumed run that was not
        iterated does not change its files.
        """
        with ExitStack() as stack:  # runs all of these even if some raise, last one first
            if self.directory is not None:
                writes = self._started or not self._resumed
                if writes:
                    stack.callback(self._write_curve)
                    stack.callback(self._write_summary)
                stack.callback(self.directory.close)
                if writes:
                    stack.callback(self._write_last_checkpoint)
            stack.callback(self._close_source)
            if self._started:
                for callback in reversed(self._callbacks):
                    stack.callback(callback.on_end, self)

    def _close_source(self) -> None:
        try:
            self._source.close()
        except Exception as error:  # a failing close() must not lose the trained policy
            logger.warning("%s failed at close: %s: %s", self.config.env_id, type(error).__name__, error)

    def _write_last_checkpoint(self) -> None:
        if self._phases.intact:
            self.checkpoint()

    def _write_summary(self) -> None:
        assert self.directory is not None
        summary = self.summary()
        if self._bundle is None and self.epoch == self.resumed_from and (self.directory.path / runs.SUMMARY).exists():
            before = runs.read_summary(self.directory.path)
            if before["epochs"] == self.epoch:  # that bundle contains this policy
                summary["bundle"] = before["bundle"]
        self.directory.write_summary(summary)

    def _write_curve(self) -> None:
        assert self.directory is not None
        if self.epoch:
            self._draw_curve(self.directory.path / runs.CURVE)
            self.directory.keep(CURVE, self.directory.path / runs.CURVE)

    def _draw_curve(self, file: Path) -> None:
        metrics, evaluations = [epoch.record() for epoch in self._epochs], []
        if self.directory is not None:
            path = self.directory.path
            metrics, evaluations = runs.read_metrics(path), runs.read_evaluations(path)
        title = f"{self.config.env_id}, seed {self.config.seed}"
        plotting.plot_learning_curve(file, metrics, title, self.stop_return, evaluations)

    def evaluate(self, episodes: int, mode: str = "greedy") -> Evaluation:
        """Plays episodes with the current policy, from the same seeds each time, without learning from them.

        Args:
            episodes: Number of episodes.
            mode: "greedy" for the most probable actions, "sample" to sample them.

        Raises:
            ConfigError: ``episodes`` is less than 1.
            EnvironmentStepError: The environment failed.
        """
        return self._evaluator.evaluate(episodes, mode, self.config.seed)

    def keep_best(self, score: float) -> bool:
        """Keeps the current policy as the best one unless an earlier one scored higher. Returns whether it was kept.

        If scores are equal, the later policy is kept, because it has trained longer.
        """
        if not score >= (self.best.score if self.best is not None else -math.inf):
            return False
        self.best = Best(float(score), self.epoch, self.env_steps, self.policy.weights())
        if self.directory is not None:
            self.directory.checkpoints.write_best({**self._state(), "score": np.array(score)})
        return True

    def checkpoint(self) -> None:
        """Writes a checkpoint, from which a resumed run continues bit for bit."""
        assert self.directory is not None
        self.directory.checkpoints.write(self.epoch, self._state())
        self._checkpoint_due = self.seconds + self.config.checkpoint_seconds

    def _state(self) -> dict[str, NDArray[Any]]:
        return {**self._learner.state(), **self._counters.state(), **self._callbacks.state()}

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        path = None if self.directory is None else self.directory.path
        resuming.restore(arrays, self._learner, self._counters, self._callbacks, path)
        self._checkpoint_due = self.seconds + self.config.checkpoint_seconds
        self._frozen.freeze()

    def summary(self) -> dict[str, Any]:
        """Returns the result of the run, for ``summary.json``."""
        return results.summary(self, self._source.restarts, time.perf_counter() - self._started_at, self._bundle)

    def provenance(self) -> dict[str, Any]:
        """Returns the origin of the policy: environment, settings, device and package versions."""
        return results.provenance(self, self._source.is_environment)

    def _description(self) -> dict[str, Any]:
        """Returns the content of ``config.json``."""
        return {**self.provenance(), "stop_return": self.stop_return}

    def export(self, root: Path | str, name: str | None = None, which: str = BEST) -> Bundle:
        """Exports the policy; see :func:`pgkeras.policy.export.export_policy`.

        Args:
            root: Directory of policies.
            name: The policy's name. Default: the environment's name.
            which: "best" for the best policy in evaluations, or the last one if there were none; "last" for the last.

        Raises:
            ExportError: See :func:`pgkeras.policy.export.export_policy`.
        """
        self._bundle = results.export(self, self.best if which == BEST else None, Path(root), name)
        if self.directory is not None:
            self.directory.note_bundle(self._bundle.path)
            if self.directory.wants_films and self._source.is_environment:
                films.film_for_loggers(self._bundle, self.config, self.directory)
        return self._bundle


def train(
    env_id: str,
    *,
    preset: str | None = None,
    out: Path | str | None = None,
    network: keras.Model | str | None = None,
    callbacks: Sequence[Callback] = (),
    **settings: Any,
) -> Training:
    """Trains a policy: ``pgkeras.train("CartPole-v1", seed=0).export("saved_models")``.

    In a notebook, it shows a progress bar.

    Args:
        env_id: A gymnasium id, or ``module:id``.
        preset: Name of a preset. Default: the environment's preset, or the one for its kind of actions.
        out: Run directory. Default: the run writes no files.
        network: A Keras model from observations ``[B, ...]`` to features ``[B, F]``, or a value of the setting.
        callbacks: Callbacks, which observe the run and may stop it.
        **settings: Any setting of :class:`pgkeras.settings.config.Config`.

    Returns:
        The finished run.

    Raises:
        PgkerasError: See :class:`Training`.
    """
    directory = Path(out) if out is not None else None
    if isinstance(network, str):
        network, settings = None, {**settings, "network": network}
    config = config_for(env_id, preset, settings)
    check_effect(config, settings, directory=directory is not None, network=network is not None)
    check_effect_here(config, settings)
    training = Training(config, directory, network=network, callbacks=callbacks)
    try:
        for _ in with_progress_bar(training):
            pass
    finally:
        training.finish()
    return training


def _check(network: Any, callbacks: Sequence[Any]) -> None:
    if network is not None and not isinstance(network, keras.Model):
        raise ConfigError(f"network: expected a Keras model or a value of the setting, got {network!r}")
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise ConfigError(f"callbacks: expected instances of pgkeras.Callback, got {callback!r}")


def _warn_of_size(policy: Policy) -> None:
    weights = sum(math.prod(v.shape) for v in policy.variables)
    if weights > _MANY_WEIGHTS:
        logger.warning(
            "the policy has %s weights, and every step reads all of them, so only a few steps run per second. Use "
            "smaller layers, or split the action into several components (MultiDiscrete)",
            f"{weights:,}",
        )
