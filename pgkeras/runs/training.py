"""Training: the loop over epochs. Phase one collects episodes, phase two learns from them; repeat."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pgkeras.backend import keras
from pgkeras.environments.collect import Collector
from pgkeras.reinforce.learner import Lesson
from pgkeras.runs import directory as runs
from pgkeras.runs import plotting
from pgkeras.runs.callbacks import Callback
from pgkeras.runs.checkpoints import LAST
from pgkeras.runs.run_state import RunState
from pgkeras.settings.config import Config, resolve

__all__ = ["EpochMetrics", "Training", "train"]


@dataclass(frozen=True, kw_only=True)
class EpochMetrics(Lesson):
    """The metrics of one epoch, by their names in ``metrics.jsonl``."""

    epoch: int
    env_steps: int  # since the run began, as are episodes and seconds
    episodes: int
    seconds: float
    return_mean: float  # of this epoch's episodes, undiscounted
    return_min: float
    return_max: float
    mean_return_100: float  # of the last hundred episodes, or of all so far
    episode_length: float  # mean, in steps
    idle_steps: int  # stepped by vector environments, but of no episode that was asked for
    collect_seconds: float  # phase one
    learn_seconds: float  # phase two
    steps_per_second: float
    reported: Mapping[str, float] = field(default_factory=dict)  # by callbacks

    def record(self) -> dict[str, float]:
        """All of it by name, as ``metrics.jsonl`` has it."""
        values = asdict(self)
        reported = values.pop("reported")
        return {**values, **reported}


class Training(RunState):
    """A run: iterate over it to train, one epoch at a time.

    Args:
        config: Settings.
        directory: Where the run's files go; None for a run that leaves none.
        network: A Keras model from observations to features, in place of the configured one.
        callbacks: What else watches the run; called after the conditions to stop at and before evaluations.
        resume: Whether to go on with the run in the directory.
        checkpoint: Which checkpoint to go on from: "last", "best", or the number of epochs finished.

    Raises:
        ConfigError: A setting does not fit: an unknown optimizer or activation.
        EnvironmentSetupError: The environment cannot be made.
        UnsupportedSpaceError: A space of the environment is not supported.
        RunError: The directory cannot be written, or there is nothing to resume.
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
    ) -> None:
        super().__init__(config, directory, network, callbacks, resume, checkpoint)
        self._collector = Collector(self._environments, self._frozen)
        self._started = False
        self._between_epochs = True  # when weights and counters belong together
        self._reported: dict[str, float] = {}

    @property
    def finished(self) -> bool:
        """Whether there is a reason to stop: a limit is reached, the environment solved, or a callback asked for it."""
        return self.stop_reason is not None

    def stop(self, reason: str) -> None:
        """Ends the run after this epoch; of several reasons, the first one counts."""
        self.stop_reason = self.stop_reason or reason

    def report(self, **values: float) -> None:
        """Adds values, by name, to what this epoch's line in ``metrics.jsonl`` says."""
        self._reported.update(values)

    def __iter__(self) -> Iterator[EpochMetrics]:
        """Trains until finished.

        Raises:
            EnvironmentStepError: The environment failed.
            TrainingError: The loss or the gradient is not finite. The last checkpoint is intact.
        """
        if not self._started:
            self._started = True
            if self.directory is not None:
                self.directory.forget_after(self.epoch, self.env_steps)
            for callback in self._callbacks:
                callback.on_start(self)
        while not self.finished:
            yield self._close_epoch(self._play_and_learn())

    def _play_and_learn(self) -> EpochMetrics:
        config = self.config
        began = time.perf_counter()
        seed = np.random.SeedSequence(config.seed, spawn_key=(self.epoch,))
        episodes = self._episodes_to_play()
        trajectory = self._collector.collect(episodes, seed)
        collected = time.perf_counter()
        self._between_epochs = False
        lesson = self._learner.learn(trajectory, self.epoch, min(1.0, self.env_steps / config.steps))
        self._frozen.freeze(self._learner.weights)
        learnt = time.perf_counter()

        self.epoch += 1
        self.env_steps += trajectory.steps
        self.episodes += episodes
        self.seconds += learnt - began
        returns = trajectory.episode_returns
        self._recent.extend(returns.tolist())
        self._recent_lengths.extend(trajectory.lengths.tolist())
        self._between_epochs = True
        return EpochMetrics(
            epoch=self.epoch,
            env_steps=self.env_steps,
            episodes=self.episodes,
            seconds=self.seconds,
            return_mean=float(returns.mean()),
            return_min=float(returns.min()),
            return_max=float(returns.max()),
            mean_return_100=self.mean_return_100,
            episode_length=trajectory.steps / episodes,
            idle_steps=self._collector.idle_steps,
            collect_seconds=collected - began,
            learn_seconds=learnt - collected,
            steps_per_second=trajectory.steps / (learnt - began),
            **vars(lesson),
        )

    def _episodes_to_play(self) -> int:
        # Fixed before the episodes are played, by earlier ones: to play on until there are enough steps would favour
        # short episodes.
        if self.config.batch_steps is None or not self._recent_lengths:
            return self.config.episodes
        return max(1, round(self.config.batch_steps / float(np.mean(self._recent_lengths))))

    def _close_epoch(self, metrics: EpochMetrics) -> EpochMetrics:
        self._reported = {}
        try:
            for callback in self._callbacks:
                callback.on_epoch(self, metrics)
        finally:  # the epoch has been, whatever a callback raises
            metrics = replace(metrics, reported=self._reported)
            if self.directory is not None:
                self.directory.write_epoch(metrics.record())
        if self.directory is not None and self.seconds >= self._checkpoint_due:
            self.checkpoint()
        return metrics

    def finish(self) -> None:
        """Tells the callbacks, frees the environments, and writes the last checkpoint, summary and learning curve.

        After an epoch that was broken off, the checkpoint stays the one before it.
        """
        with ExitStack() as stack:  # each is done, whatever the others raise
            stack.callback(self._write_end)
            stack.callback(self._environments.close)
            if self._started:
                for callback in reversed(self._callbacks):
                    stack.callback(callback.on_end, self)

    def _write_end(self) -> None:
        if self.directory is not None:
            if self._between_epochs:
                self.checkpoint()
            self.directory.close()
            self.directory.write_summary(self.summary())
            if self.epoch:
                path, title = self.directory.path, f"{self.config.env_id}, seed {self.config.seed}"
                metrics, evaluations = runs.read_metrics(path), runs.read_evaluations(path)
                plotting.plot_learning_curve(path / runs.CURVE, metrics, title, self.stop_return, evaluations)


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

    Args:
        env_id: A gymnasium id, or ``module:id``.
        preset: Name of a preset; by default the environment's own.
        out: Run directory; by default the run leaves no files.
        network: A Keras model from observations ``[B, ...]`` to features ``[B, F]``, or the setting of that name.
        callbacks: What watches the run, and may stop it.
        **settings: Any setting of :class:`pgkeras.settings.config.Config`.

    Returns:
        The finished run.

    Raises:
        PgkerasError: See :class:`Training`.
    """
    directory = Path(out) if out is not None else None
    if isinstance(network, str):
        network, settings = None, {**settings, "network": network}
    training = Training(resolve(env_id, preset, settings), directory, network=network, callbacks=callbacks)
    try:
        for _ in training:
            pass
    finally:
        training.finish()
    return training
