"""Schedules of the learning rate, the KL target and the entropy bonus."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Scheduled", "adapted", "factor"]

_TOLERANCE = 1.5  # the learning rate changes if the KL divergence misses its target by more than this factor
_CHANGE = 1.3  # factor by which the learning rate changes
_RANGE = 100.0  # maximum factor between the learning rate and the initial one
_COOLDOWN = 0.4  # share of the training, at its end, in which "cooldown" decreases


def factor(schedule: str, progress: float) -> float:
    """Returns the factor of the initial value, from 0 to 1.

    It is 1 for "constant" and ``1 - progress`` for "linear". For "cooldown" it is 1 during the first 60 % of training
    and then decreases linearly to 0 (Hägele et al. 2024, "Scaling laws and compute-optimal training beyond fixed
    training durations").

    Args:
        schedule: Name of the schedule.
        progress: Progress of the training, from 0 to 1.
    """
    remaining = 1.0 - progress
    match schedule:
        case "linear":
            return remaining
        case "cooldown":
            return min(1.0, remaining / _COOLDOWN)
    return 1.0


class Scheduled:
    """A number that follows a schedule.

    Args:
        initial: The initial number.
        schedule: Name of the schedule; see :func:`factor`.
        assign: Called with the number when it changes.
        assigned: The number that is already assigned; None if unknown.
    """

    def __init__(
        self, initial: float, schedule: str, assign: Callable[[float], None], assigned: float | None = None
    ) -> None:
        self._initial = initial
        self._schedule = schedule
        self._assign = assign
        self._assigned = assigned

    def begin(self, progress: float, scale: float = 1.0) -> float:
        """Assigns the number for an epoch and returns it.

        Args:
            progress: Progress of the training, from 0 to 1.
            scale: Multiplies the scheduled number.
        """
        number = scale * self._initial * factor(self._schedule, progress)
        if number != self._assigned:  # an assignment costs one TensorFlow operation
            self._assign(number)
            self._assigned = number
        return number

    def invalidate(self) -> None:
        """Discards the cached number, so that :meth:`begin` assigns it. Call this if other code may have changed it."""
        self._assigned = None


def adapted(learning_rate: float, kl: float, target: float, initial: float) -> float:
    """Returns the next learning rate, after a step with ``learning_rate`` had the KL divergence ``kl``.

    It decreases by the factor 1.3 if ``kl > 1.5 * target`` and increases by it if ``kl < target / 1.5``. Schulman et
    al. 2017, "Proximal policy optimization algorithms", section 4, adapt a KL penalty in this way, and Rudin et al.
    2022, "Learning to walk in minutes using massively parallel deep reinforcement learning", the learning rate. The KL
    divergence grows with the square of the learning rate: a learning rate of 1.3x gives a divergence of 1.7x.

    Args:
        learning_rate: The learning rate of the last step.
        kl: The KL divergence of that step; see :func:`pgkeras.reinforce.kl.approximate_kl`. NaN keeps the learning
            rate.
        target: The target of the KL divergence.
        initial: The initial learning rate. The result is within a factor of 100 of it.
    """
    if kl > target * _TOLERANCE:
        return max(learning_rate / _CHANGE, initial / _RANGE)
    if kl < target / _TOLERANCE:
        return min(learning_rate * _CHANGE, initial * _RANGE)
    return learning_rate
