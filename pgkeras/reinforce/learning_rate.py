"""Learning rates: from a schedule, or adapted to the KL divergence of the gradient steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from pgkeras.backend import keras
from pgkeras.reinforce import schedules

__all__ = ["AdaptiveLearningRate", "LearningRate", "NaturalLearningRate", "ScheduledLearningRate"]


class LearningRate(Protocol):
    """Sets the optimizer's learning rate in each epoch."""

    def begin(self, progress: float, kl_factor: float) -> None:
        """Prepares an epoch's gradient step.

        Args:
            progress: Progress of the training, from 0 to 1.
            kl_factor: Factor of the KL target for this step, from 0 to 1; see :mod:`pgkeras.reinforce.settling`.
                Ignored without a KL target.
        """

    def end(self, progress: float, kl: float) -> float:
        """Processes the result of the gradient step.

        Args:
            progress: As for :meth:`begin`.
            kl: KL(policy before || policy after), mean per step; NaN if not measured.

        Returns:
            The learning rate of this step.
        """

    def invalidate(self) -> None:
        """Discards the cached learning rate. Call this after the optimizer's variables have been restored."""


class ScheduledLearningRate:
    """A learning rate that follows a schedule.

    Args:
        optimizer: The optimizer.
        initial: The initial learning rate.
        schedule: Name of the schedule; see :func:`pgkeras.reinforce.schedules.factor`.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer, initial: float, schedule: str) -> None:
        self._scheduled = schedules.Scheduled(initial, schedule, partial(setattr, optimizer, "learning_rate"))
        self._rate = initial

    def begin(self, progress: float, kl_factor: float) -> None:
        """See :class:`LearningRate`."""
        self._rate = self._scheduled.begin(progress)

    def end(self, progress: float, kl: float) -> float:
        """See :class:`LearningRate`."""
        return self._rate

    def invalidate(self) -> None:
        """See :class:`LearningRate`."""
        self._scheduled.invalidate()


class AdaptiveLearningRate:
    """A learning rate that is adapted until the KL divergence of a gradient step is near a target.

    Args:
        optimizer: The optimizer, with the initial learning rate. Checkpoints store the current one in its variables.
        initial: The initial learning rate; see :func:`pgkeras.reinforce.schedules.adapted`.
        schedule: Name of the target's schedule; see :func:`pgkeras.reinforce.schedules.factor`.
        target_kl: Initial target of the KL divergence, mean per step.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer, initial: float, schedule: str, target_kl: float) -> None:
        self._optimizer = optimizer
        self._initial, self._schedule, self._target_kl = initial, schedule, target_kl
        self._kl_factor = 1.0

    def begin(self, progress: float, kl_factor: float) -> None:
        """See :class:`LearningRate`. Keeps the learning rate that :meth:`end` set after the previous step."""
        self._kl_factor = kl_factor

    def end(self, progress: float, kl: float) -> float:
        """See :class:`LearningRate`. Sets the next learning rate."""
        last = _rate(self._optimizer)
        target = self._kl_factor * self._target_kl * schedules.factor(self._schedule, progress)
        rate = schedules.adapted(last, kl, target, self._initial)
        if rate != last:  # an assignment costs one TensorFlow operation
            self._optimizer.learning_rate = rate
        return last

    def invalidate(self) -> None:
        """See :class:`LearningRate`. Does nothing, because the learning rate is read from the optimizer."""


class NaturalLearningRate:
    """The schedule of the KL target of natural gradients, which set the learning rate themselves.

    Args:
        optimizer: The optimizer. Each step sets its learning rate.
        schedule: Name of the target's schedule; see :func:`pgkeras.reinforce.schedules.factor`.
        target_kl: Initial target of the KL divergence, mean per step.
        assign: Sets the target for the next step.
    """

    def __init__(
        self, optimizer: keras.optimizers.Optimizer, schedule: str, target_kl: float, assign: Callable[[float], None]
    ) -> None:
        self._optimizer = optimizer
        self._target = schedules.Scheduled(target_kl, schedule, assign)

    def begin(self, progress: float, kl_factor: float) -> None:
        """See :class:`LearningRate`. Sets the target."""
        self._target.begin(progress, kl_factor)

    def end(self, progress: float, kl: float) -> float:
        """See :class:`LearningRate`."""
        return _rate(self._optimizer)

    def invalidate(self) -> None:
        """See :class:`LearningRate`."""
        self._target.invalidate()


def _rate(optimizer: keras.optimizers.Optimizer) -> float:
    return float(optimizer.learning_rate.numpy())
