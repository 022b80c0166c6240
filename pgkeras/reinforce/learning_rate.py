"""The learning rate from epoch to epoch: by a schedule, or adapted to how far the gradient steps move the policy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from pgkeras.backend import keras
from pgkeras.reinforce import schedules

__all__ = ["AdaptiveLearningRate", "LearningRate", "NaturalLearningRate", "ScheduledLearningRate"]


class LearningRate(Protocol):
    """What sets an optimizer's learning rate for every epoch."""

    def begin(self, progress: float, share: float) -> None:
        """Prepares an epoch's gradient step.

        Args:
            progress: How far training is, from 0 to 1.
            share: Share of the target divergence that the step aims at, from 0 to 1; see
                :mod:`pgkeras.reinforce.settling`. Without a target it changes nothing.
        """

    def end(self, progress: float, kl: float) -> float:
        """Takes note of the gradient step.

        Args:
            progress: As for :meth:`begin`.
            kl: The divergence of the policy from the one before the step, mean per step; NaN if it is not known.

        Returns:
            The learning rate of that step.
        """

    def forget(self) -> None:
        """Must be called when the optimizer's variables have been restored: they hold another learning rate."""


class ScheduledLearningRate:
    """Follows a schedule.

    Args:
        optimizer: The optimizer.
        initial: The learning rate at the beginning.
        schedule: The name of its schedule; see :func:`pgkeras.reinforce.schedules.factor`.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer, initial: float, schedule: str) -> None:
        self._scheduled = schedules.Scheduled(initial, schedule, partial(setattr, optimizer, "learning_rate"))
        self._rate = initial

    def begin(self, progress: float, share: float) -> None:
        """See :class:`LearningRate`."""
        self._rate = self._scheduled.begin(progress)

    def end(self, progress: float, kl: float) -> float:
        """See :class:`LearningRate`."""
        return self._rate

    def forget(self) -> None:
        """See :class:`LearningRate`."""
        self._scheduled.forget()


class AdaptiveLearningRate:
    """Adapts the learning rate so that each gradient step moves the policy by a target divergence.

    Args:
        optimizer: The optimizer, whose learning rate is the initial one. Checkpoints keep it with its variables.
        initial: The learning rate at the beginning; see :func:`pgkeras.reinforce.schedules.adapted`.
        schedule: The name of the target's schedule; see :func:`pgkeras.reinforce.schedules.factor`.
        target_kl: The target divergence at the beginning, mean per step.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer, initial: float, schedule: str, target_kl: float) -> None:
        self._optimizer = optimizer
        self._initial, self._schedule, self._target_kl = initial, schedule, target_kl
        self._share = 1.0

    def begin(self, progress: float, share: float) -> None:
        """Leaves the learning rate that the last step led to."""
        self._share = share

    def end(self, progress: float, kl: float) -> float:
        """See :class:`LearningRate`. Sets the next learning rate."""
        last = _rate(self._optimizer)
        target = self._share * self._target_kl * schedules.factor(self._schedule, progress)
        rate = schedules.adapted(last, kl, target, self._initial)
        if rate != last:  # assigning it is an operation of its own
            self._optimizer.learning_rate = rate
        return last

    def forget(self) -> None:
        """See :class:`LearningRate`. The restored learning rate is the one to go on from."""


class NaturalLearningRate:
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
        self._optimizer = optimizer
        self._target = schedules.Scheduled(target_kl, schedule, assign)

    def begin(self, progress: float, share: float) -> None:
        """See :class:`LearningRate`. Sets the target."""
        self._target.begin(progress, share)

    def end(self, progress: float, kl: float) -> float:
        """See :class:`LearningRate`."""
        return _rate(self._optimizer)

    def forget(self) -> None:
        """See :class:`LearningRate`."""
        self._target.forget()


def _rate(optimizer: keras.optimizers.Optimizer) -> float:
    return float(optimizer.learning_rate.numpy())
