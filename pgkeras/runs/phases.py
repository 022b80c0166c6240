"""The two phases of an epoch: whole episodes are played by the frozen policy, then the policy learns from them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

import numpy as np

from pgkeras.environments.alarm import call_with_alarm, is_alarm_free
from pgkeras.environments.default_config import LONGEST_EPISODE
from pgkeras.environments.trajectory import Trajectory
from pgkeras.reinforce.frozen_policy import FrozenPolicy
from pgkeras.reinforce.learner import Learner
from pgkeras.runs.counters import Counters
from pgkeras.runs.metrics import EpochMetrics
from pgkeras.runs.sources import EpisodeSource
from pgkeras.runs.stopping import share_of_limits, time_is_over
from pgkeras.settings.config import Config

__all__ = ["EpochDropped", "Phases"]

logger = logging.getLogger(__name__)

# How often limits and signals are looked at while episodes are played.
_LOOK_SECONDS = 0.1
# How much later than the time limit a step that blocks is broken off, and how often that is tried again.
_LATE_SECONDS, _AGAIN_SECONDS = 0.5, 1.0


class EpochDropped(BaseException):
    """Raised to end an epoch before its episodes are over, at a limit or by a signal.

    It is no Exception, so that it is not mistaken for one that an environment raises.

    Args:
        reason: Why the run is over, as :meth:`pgkeras.runs.run.Run.stop` takes it; None after an interruption.
    """

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason


class Phases:
    """Plays and learns, an epoch at a time.

    Args:
        config: Settings.
        source: Where episodes come from.
        learner: What learns from them.
        frozen: What acts; frozen anew after each lesson.
        counters: Count each epoch that is done.
        alone: Whether this is the only process of the training. Others would wait for an epoch that one drops.

    Attributes:
        collector: What plays the episodes.
        intact: Whether weights and counters belong together: not while a lesson is under way, nor after it failed.
        interrupted: Set to drop the epoch whose episodes are being played.
        on_progress: See :attr:`pgkeras.runs.training.Training.on_progress`.
    """

    def __init__(
        self,
        config: Config,
        source: EpisodeSource,
        learner: Learner,
        frozen: FrozenPolicy,
        counters: Counters,
        *,
        alone: bool,
    ) -> None:
        self._config, self._source, self._learner = config, source, learner
        self._frozen, self._counters, self._alone = frozen, counters, alone
        # Of several processes none may go by its own clock: all take the same steps.
        self._limits = config if alone else replace(config, time_limit=None)
        self._epoch_began = self._look_due = 0.0
        self._wanted = 0  # episodes of this epoch
        self.collector = source.collector(frozen, self._watch)
        self.intact = True
        self.interrupted = False
        self.on_progress: Callable[[int, int, int], None] | None = None

    def run(self) -> EpochMetrics:
        """Plays an epoch's episodes and learns from them.

        Raises:
            EpochDropped: The time limit was reached, or the run interrupted, before the episodes were over.
            EnvironmentStepError: The environment failed.
            TrainingError: The loss or the gradient is not finite.
        """
        config, counters = self._config, self._counters
        began = self._epoch_began = time.perf_counter()
        trajectory = self._play()
        collected = time.perf_counter()
        if counters.epoch == 0:
            self._source.advise()
            _tell_of_truncation(config, int(trajectory.lengths.max()))
        self.intact = False
        progress = share_of_limits(self._limits, counters.env_steps, counters.seconds)
        lesson = self._learner.learn(trajectory, counters.epoch, progress)
        self._frozen.freeze(self._learner.weights)
        learnt = time.perf_counter()
        returns = trajectory.episode_returns
        counters.add_epoch(returns, trajectory.lengths, learnt - began)
        self.intact = True
        return EpochMetrics(
            epoch=counters.epoch,
            env_steps=counters.env_steps,
            episodes=counters.episodes,
            seconds=counters.seconds,
            return_mean=float(returns.mean()),
            return_min=float(returns.min()),
            return_max=float(returns.max()),
            mean_return_100=counters.mean_return_100,
            episode_length=trajectory.steps / len(returns),
            idle_steps=self.collector.idle_steps,
            episodes_lost=self.collector.episodes_lost,
            collect_seconds=collected - began,
            learn_seconds=learnt - collected,
            steps_per_second=trajectory.steps / (learnt - began),
            **vars(lesson),
        )

    def episodes_to_play(self) -> int:
        """How many episodes make a batch of ``batch_steps`` steps, if that is set; ``episodes`` otherwise.

        It is fixed before the episodes are played, by the lengths of earlier ones: to play on until there are enough
        steps would favour short episodes.
        """
        lengths = self._counters.recent_lengths
        if self._config.batch_steps is None or not lengths:
            return self._config.episodes
        return max(1, round(self._config.batch_steps / float(np.mean(lengths))))

    def _play(self) -> Trajectory:
        seed = np.random.SeedSequence(self._config.seed, spawn_key=(self._counters.epoch,))
        self._wanted = self.episodes_to_play()
        limit = self._limits.time_limit
        collect = self.collector.collect
        if limit is None or not is_alarm_free():
            return collect(self._wanted, seed)
        left = max(0.0, limit - self._counters.seconds) + _LATE_SECONDS
        return call_with_alarm(left, self._drop_over_time, collect, self._wanted, seed, interval=_AGAIN_SECONDS)

    def _watch(self, steps: int, episodes: int) -> None:
        """Called with the steps of an epoch so far and its episodes that are done; raises EpochDropped to end it."""
        now = time.perf_counter()
        if now < self._look_due:
            return
        self._look_due = now + _LOOK_SECONDS
        limit = self._limits.time_limit
        if limit is not None and self._counters.seconds + now - self._epoch_began >= limit:
            self._drop_over_time()
        if self.interrupted and self._alone:
            raise EpochDropped
        if self.on_progress is not None:
            self.on_progress(steps, episodes, self._wanted)

    def _drop_over_time(self) -> NoReturn:
        assert self._limits.time_limit is not None
        raise EpochDropped(time_is_over(self._limits.time_limit))


def _tell_of_truncation(config: Config, longest: int) -> None:
    if longest >= LONGEST_EPISODE == config.max_episode_steps:
        logger.warning(
            "%s has episodes that were truncated after %s steps, as it has no limit; max_episode_steps sets another",
            config.env_id,
            f"{LONGEST_EPISODE:,}",
        )
