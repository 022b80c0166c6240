"""The two phases of an epoch: the frozen policy plays whole episodes, then the policy learns from them."""

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

# Interval of the checks for limits and interruptions while episodes are played.
_CHECK_SECONDS = 0.1
# A blocking step is interrupted this long after the time limit, and again at this interval.
_GRACE_SECONDS, _REPEAT_SECONDS = 0.5, 1.0


class EpochDropped(BaseException):
    """Raised to end an epoch before its episodes are finished, at a limit or after a signal.

    It is not an ``Exception``, because handlers of exceptions raised by environments must not catch it.

    Args:
        reason: The stop reason, for :meth:`pgkeras.runs.run.Run.stop`; None after an interruption.
    """

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason


class Phases:
    """Runs epochs: each plays episodes and learns from them.

    Args:
        config: Settings.
        source: Source of episodes.
        learner: Learns from the episodes.
        frozen: Acting copy of the policy, updated after each gradient step.
        counters: Updated after each epoch.
        alone: Whether this is the only process of the training. If it is not, the other processes wait for this
            one's episodes, and no epoch is dropped.

    Attributes:
        collector: Plays the episodes.
        intact: Whether weights and counters are consistent. False during a gradient step and after a failed one.
        interrupted: Set it to drop the epoch whose episodes are being played.
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
        # Several processes must take the same steps, so none may stop by its own clock.
        self._limits = config if alone else replace(config, time_limit=None)
        self._epoch_began = self._check_due = 0.0
        self._episodes = 0  # of this epoch
        self.collector = source.collector(frozen, self._watch)
        self.intact = True
        self.interrupted = False
        self.on_progress: Callable[[int, int, int], None] | None = None

    def run(self) -> EpochMetrics:
        """Runs one epoch and returns its metrics.

        Raises:
            EpochDropped: The time limit was reached, or the run was interrupted, before the episodes were finished.
            EnvironmentStepError: The environment failed.
            TrainingError: The loss or the gradient is not finite.
        """
        config, counters = self._config, self._counters
        began = self._epoch_began = time.perf_counter()
        trajectory = self._play()
        collected = time.perf_counter()
        if counters.epoch == 0:
            self._source.advise()
            _warn_of_truncation(config, int(trajectory.lengths.max()))
        self.intact = False
        progress = share_of_limits(self._limits, counters.env_steps, counters.seconds)
        update = self._learner.learn(trajectory, counters.epoch, progress)
        self._frozen.freeze(self._learner.weights)
        learned = time.perf_counter()
        returns = trajectory.episode_returns
        counters.add_epoch(returns, trajectory.lengths, learned - began)
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
            learn_seconds=learned - collected,
            steps_per_second=trajectory.steps / (learned - began),
            **vars(update),
        )

    def episodes_to_play(self) -> int:
        """Returns the number of episodes of the next epoch: about ``batch_steps`` steps if set, else ``episodes``.

        The number is computed before the episodes are played, from the mean length of earlier episodes. Playing until
        there are enough steps would favor short episodes.
        """
        lengths = self._counters.recent_lengths
        if self._config.batch_steps is None or not lengths:
            return self._config.episodes
        return max(1, round(self._config.batch_steps / float(np.mean(lengths))))

    def _play(self) -> Trajectory:
        seed = np.random.SeedSequence(self._config.seed, spawn_key=(self._counters.epoch,))
        self._episodes = self.episodes_to_play()
        limit = self._limits.time_limit
        collect = self.collector.collect
        if limit is None or not is_alarm_free():
            return collect(self._episodes, seed)
        left = max(0.0, limit - self._counters.seconds) + _GRACE_SECONDS
        return call_with_alarm(left, self._drop_over_time, collect, self._episodes, seed, interval=_REPEAT_SECONDS)

    def _watch(self, steps: int, episodes: int) -> None:
        """Receives the steps and finished episodes of the epoch so far. Raises EpochDropped to end the epoch."""
        now = time.perf_counter()
        if now < self._check_due:
            return
        self._check_due = now + _CHECK_SECONDS
        limit = self._limits.time_limit
        if limit is not None and self._counters.seconds + now - self._epoch_began >= limit:
            self._drop_over_time()
        if self.interrupted and self._alone:
            raise EpochDropped
        if self.on_progress is not None:
            self.on_progress(steps, episodes, self._episodes)

    def _drop_over_time(self) -> NoReturn:
        assert self._limits.time_limit is not None
        raise EpochDropped(time_is_over(self._limits.time_limit))


def _warn_of_truncation(config: Config, longest: int) -> None:
    if longest >= LONGEST_EPISODE == config.max_episode_steps:
        logger.warning(
            "%s has no limit on episode length, so episodes were truncated after %s steps; set max_episode_steps",
            config.env_id,
            f"{LONGEST_EPISODE:,}",
        )
