"""Schedules: how the learning rate and other weights change during training."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Scheduled", "adapted", "factor"]

_TOLERANCE = 1.5  # factor by which the divergence may miss its target before the step size is changed
_CHANGE = 1.3  # at most, per step
_RANGE = 100.0  # around the initial step size
_COOLDOWN = 0.4  # the last share of training, over which a schedule with a cooldown falls


def factor(schedule: str, progress: float) -> float:
    """The remaining share of the initial value.

    It is 1 for "constant" and ``1 - progress`` for "linear". For "cooldown" it is 1 until the last two fifths of
    training, over which it falls linearly to 0 (Hägele et al. 2024, "Scaling laws and compute-optimal training beyond
    fixed training durations"): steps stay large while there is much to learn, and end small.

    Args:
        schedule: Its name.
        progress: How far training is, from 0 to 1.
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
        initial: The number at the beginning.
        schedule: The name of its schedule; see :func:`factor`.
        assign: Puts the number where it is used; called when it changes.
        assigned: What is there already, if that is known.
    """

    def __init__(
        self, initial: float, schedule: str, assign: Callable[[float], None], assigned: float | None = None
    ) -> None:
        self._initial = initial
        self._schedule = schedule
        self._assign = assign
        self._assigned = assigned

    def begin(self, progress: float, share: float = 1.0) -> float:
        """Sets the number for an epoch and returns it.

        Args:
            progress: How far training is, from 0 to 1.
            share: What the scheduled number is multiplied by.
        """
        number = share * self._initial * factor(self._schedule, progress)
        if number != self._assigned:  # assigning it is an operation of its own
            self._assign(number)
            self._assigned = number
        return number

    def forget(self) -> None:
        """Must be called when the number may have been changed by others: it is assigned anew."""
        self._assigned = None


def adapted(learning_rate: float, kl: float, target: float, initial: float) -> float:
    """The next step size, after one of ``learning_rate`` moved the policy by ``kl`` instead of ``target``.

    It shrinks by a constant factor when the policy moved too far and grows when it moved too little, as Schulman et al.
    2017, "Proximal policy optimization algorithms", section 4, do with a penalty and Rudin et al. 2022, "Learning to
    walk in minutes using massively parallel deep reinforcement learning", with the step size. The divergence
    grows with the square of the step size: a step size 1.3 times as large makes it 1.7 times as large.

    Args:
        learning_rate: The last step size.
        kl: The divergence it made; see :func:`pgkeras.reinforce.kl.approximate_kl`. NaN leaves the step size.
        target: The divergence it should make.
        initial: The first step size. The step size stays within a factor of 100 of it.
    """
    if kl > target * _TOLERANCE:
        return max(learning_rate / _CHANGE, initial / _RANGE)
    if kl < target / _TOLERANCE:
        return min(learning_rate * _CHANGE, initial * _RANGE)
    return learning_rate
