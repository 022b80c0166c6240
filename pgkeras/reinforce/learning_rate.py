"""The learning rate from epoch to epoch: by a schedule, or adapted to how far the gradient steps move the policy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pgkeras.backend import keras
from pgkeras.reinforce import schedules

__all__ = ["AdaptiveLearningRate", "LearningRate", "NaturalLearningRate"]


class LearningRate(schedules.Scheduled):
    """Sets an optimizer's learning rate by a schedule.

    Args:
        optimizer: The optimizer.
        initial: The learning rate at the beginning.
        schedule: The name of its schedule; see :func:`pgkeras.reinforce.schedules.factor`.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer, initial: float, schedule: str) -> None:
        super().__init__(initial, schedule, partial(setattr, optimizer, "learning_rate"))
        self._optimizer = optimizer

    def begin(self, progress: float, share: float = 1.0) -> float:
        """Sets the learning rate for an epoch and returns it.

        Args:
            progress: How far training is, from 0 to 1.
            share: Share of the target divergence that the step to come aims at, from 0 to 1; see
                :mod:`pgkeras.reinforce.settling`. A learning rate that only follows its schedule has no target.
        """
        return super().begin(progress)

    def end(self, progress: float, kl: float) -> float:
        """Takes note of an epoch's gradient step.

        Args:
            progress: As for :meth:`begin`.
            kl: The divergence of the policy from the one before the step, mean per step; NaN if it is not known.

        Returns:
            The learning rate of that step.
        """
        return self.begin(progress)

    @property
    def _rate(self) -> float:
        return float(self._optimizer.learning_rate.numpy())

    def forget(self) -> None:
        """Must be called when the optimizer's variables have been restored: they hold another learning rate."""
        self._assigned = None


class AdaptiveLearningRate(LearningRate):
    """Adapts the learning rate so that each gradient step moves the policy by a target divergence.

    Args:
        optimizer: The optimizer, whose learning rate is the initial one. Checkpoints keep it with its variables.
        initial: The learning rate at the beginning; see :func:`pgkeras.reinforce.schedules.adapted`.
        schedule: The name of the target's schedule; see :func:`pgkeras.reinforce.schedules.factor`.
        target_kl: The target divergence at the beginning, mean per step.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer, initial: float, schedule: str, target_kl: float) -> None:
        super().__init__(optimizer, initial, schedule)
        self._target_kl = target_kl
        self._share = 1.0

    def begin(self, progress: float, share: float = 1.0) -> float:
        """Leaves the learning rate that the last step led to."""
        self._share = share
        return self._rate

    def end(self, progress: float, kl: float) -> float:
        """Sets the next learning rate."""
        last = self._rate
        target = self._share * self._target_kl * schedules.factor(self._schedule, progress)
        self._set(schedules.adapted(last, kl, target, self._initial))
        return last


class NaturalLearningRate(LearningRate):
    """Schedules the divergence that natural gradients aim at; they set the learning rate themselves.

    Args:
        optimizer: The optimizer, whose learning rate each step sets.
        schedule: The name of the target's schedule; see :func:`pgkeras.reinforce.schedules.factor`.
        target_kl: The target divergence at the beginning, mean per step.
        assign: Sets the target for the step to come.
    """

    def __init__(
        self, optimizer: keras.optimizers.Optimizer, schedule: str, target_kl: float, assign: Callable[[float], None]
    ) -> None:
        super().__init__(optimizer, target_kl, schedule)
        self._assign = assign

    def begin(self, progress: float, share: float = 1.0) -> float:
        """Sets the target for an epoch and returns it."""
        return self._set(share * self._initial * schedules.factor(self._schedule, progress))

    def end(self, progress: float, kl: float) -> float:
        """See :meth:`LearningRate.end`."""
        return self._rate
