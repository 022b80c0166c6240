"""Baselines: what is subtracted from the returns. They are computed from earlier batches or from the batch itself.

A baseline that does not depend on the action leaves the policy gradient unbiased (Williams 1992, section 3; Sutton &
Barto 2nd ed., section 13.4). ``docs/estimator.md`` says which of these leave it unbiased.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.environments.trajectory import Trajectory
from pgkeras.reinforce import returns as returns_

if TYPE_CHECKING:  # it needs TensorFlow, and nothing else here does
    from pgkeras.reinforce.value import ValueFunction

__all__ = ["NO_BASELINE", "BatchBaseline", "NoBaseline", "RunningMean", "ValueBaseline", "from_batch"]

Floats = NDArray[np.float64]


class NoBaseline:
    """Subtracts nothing. The other baselines extend it."""

    explains = False
    """Whether it predicts returns, so that the variance it explains can be reported."""

    def rewards(self, trajectory: Trajectory, gamma: float) -> Floats:
        """The rewards ``[T, B]`` that returns are computed from: the episodes' own, with nothing beyond their ends."""
        return trajectory.rewards

    def of(self, trajectory: Trajectory, returns: Floats) -> Floats:
        """The baseline of every step, ``[T, B]``, for returns ``[T, B]``."""
        return np.zeros_like(returns)

    def fit(self, trajectory: Trajectory, returns: Floats, epoch: int) -> float:
        """Learns from a batch what is subtracted from the next ones.

        Returns:
            The loss: mean squared error in units of the returns' variance; NaN where nothing is fitted.
        """
        return float("nan")

    def quantities(self, trajectory: Trajectory) -> Iterator[tuple[str, NDArray[Any]]]:
        """What it computes from a batch, by name, for the diagnosis of a failure: ``[T, B, ...]`` or ``[B, ...]``."""
        return iter(())

    def state(self) -> dict[str, NDArray[Any]]:
        """What a checkpoint keeps, by name."""
        return {}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restores a :meth:`state`."""


NO_BASELINE = NoBaseline()


class BatchBaseline(NoBaseline):
    """Computes the baseline from the batch itself.

    Args:
        compute: Gives it, ``[T, B]``, from the returns ``[T, B]`` and which steps are real, ``[T, B]``.
    """

    explains = True

    def __init__(self, compute: Callable[[Floats, NDArray[np.bool_]], Floats]) -> None:
        self._compute = compute

    def of(self, trajectory: Trajectory, returns: Floats) -> Floats:
        """See :class:`NoBaseline`."""
        return self._compute(returns, trajectory.mask)


_FROM_BATCH = {
    "none": NO_BASELINE,
    "time": BatchBaseline(returns_.time_baseline),
    "leave-one-out": BatchBaseline(returns_.leave_one_out_baseline),
}


def from_batch(name: str) -> NoBaseline:
    """The baseline of that name, "none" or one that is computed from the batch."""
    return _FROM_BATCH[name]


class RunningMean(NoBaseline):
    """The mean return of earlier batches; 0 before the first.

    Args:
        rate: How much of the running mean each batch replaces.
    """

    explains = True

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._mean: float | None = None

    def of(self, trajectory: Trajectory, returns: Floats) -> Floats:
        """See :class:`NoBaseline`."""
        return np.where(trajectory.mask, self._mean or 0.0, 0.0)

    def fit(self, trajectory: Trajectory, returns: Floats, epoch: int) -> float:
        """See :class:`NoBaseline`."""
        self._mean = returns_.running_mean(self._mean, returns, trajectory.mask, self._rate)
        return float("nan")

    def state(self) -> dict[str, NDArray[Any]]:
        """See :class:`NoBaseline`."""
        return {"running_mean": np.array(np.nan if self._mean is None else self._mean)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """See :class:`NoBaseline`."""
        mean = float(state["running_mean"])
        self._mean = None if np.isnan(mean) else mean


class ValueBaseline(NoBaseline):
    """What a value function predicts for a step's observation. Truncated episodes are bootstrapped with it, too.

    It is fitted after the policy's gradient step, so that as a baseline it depends on earlier batches only.

    Args:
        value: The value function.
    """

    explains = True

    def __init__(self, value: ValueFunction) -> None:
        self._value = value

    def rewards(self, trajectory: Trajectory, gamma: float) -> Floats:
        """See :class:`NoBaseline`; see :func:`pgkeras.reinforce.returns.bootstrapped` for truncated episodes."""
        beyond = self._value.predict(trajectory.final_observations)
        truncated = ~trajectory.terminated
        return returns_.bootstrapped(trajectory.rewards, trajectory.lengths, truncated, gamma, beyond)

    def of(self, trajectory: Trajectory, returns: Floats) -> Floats:
        """See :class:`NoBaseline`."""
        mask = trajectory.mask
        baseline = np.zeros_like(returns)
        baseline[mask] = self._value.predict(trajectory.observations[mask])
        return baseline

    def fit(self, trajectory: Trajectory, returns: Floats, epoch: int) -> float:
        """See :class:`NoBaseline`."""
        mask = trajectory.mask
        return self._value.fit(trajectory.observations[mask], returns[mask], epoch)

    def quantities(self, trajectory: Trajectory) -> Iterator[tuple[str, NDArray[Any]]]:
        """See :class:`NoBaseline`."""
        finals = trajectory.final_observations
        cut = ~trajectory.terminated  # what comes after a terminal state is not read
        yield "final observation", np.where(cut.reshape(-1, *[1] * (finals.ndim - 1)), finals, 0)
        yield "value prediction", self.of(trajectory, trajectory.rewards)
        yield "value prediction of the final observation", np.where(cut, self._value.predict(finals), 0.0)

    def state(self) -> dict[str, NDArray[Any]]:
        """See :class:`NoBaseline`."""
        return self._value.state()

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """See :class:`NoBaseline`."""
        self._value.restore(state)
