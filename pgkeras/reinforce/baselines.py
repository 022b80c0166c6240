"""Baselines, which are subtracted from the returns. They are computed from earlier batches or from the batch itself.

A baseline that does not depend on the action leaves the policy gradient unbiased (Williams 1992, section 3; Sutton &
Barto 2nd ed., section 13.4). ``docs/estimator.md`` lists which of these baselines are unbiased.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.environments.trajectory import Trajectory
from pgkeras.reinforce import returns as returns_

if TYPE_CHECKING:  # it is the only import here that needs TensorFlow
    from pgkeras.reinforce.value import ValueFunction

__all__ = ["NO_BASELINE", "BatchBaseline", "NoBaseline", "RunningMean", "ValueBaseline", "from_batch"]

Floats = NDArray[np.float64]


class NoBaseline:
    """The baseline 0, and the base class of the other baselines."""

    explains = False
    """Whether the baseline predicts returns. If so, its explained variance is reported."""

    def rewards(self, trajectory: Trajectory, gamma: float) -> Floats:
        """Returns the rewards ``[T, B]`` for the computation of returns, here without bootstrapping."""
        return trajectory.rewards

    def of(self, trajectory: Trajectory, returns: Floats) -> Floats:
        """Returns the baseline of every step, ``[T, B]``, for returns ``[T, B]``."""
        return np.zeros_like(returns)

    def fit(self, trajectory: Trajectory, returns: Floats, epoch: int) -> float:
        """Updates the baseline for later batches.

        Returns:
            The mean squared error divided by the variance of the returns; NaN if the baseline has no loss.
        """
        return float("nan")

    def quantities(self, trajectory: Trajectory) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yields names and values ``[T, B, ...]`` or ``[B, ...]`` computed from a batch, to diagnose failures."""
        return iter(())

    def state(self) -> dict[str, NDArray[Any]]:
        """Returns the state for a checkpoint, by name."""
        return {}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restores a :meth:`state`."""


NO_BASELINE = NoBaseline()


class BatchBaseline(NoBaseline):
    """A baseline computed from the batch itself.

    Args:
        compute: Returns the baseline ``[T, B]`` for the returns ``[T, B]`` and the mask ``[T, B]`` of real steps.
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
    """Returns the baseline named "none", "time" or "leave-one-out"."""
    return _FROM_BATCH[name]


class RunningMean(NoBaseline):
    """The mean return of earlier batches; 0 before the first.

    Args:
        rate: Weight of each batch in the running mean, in (0, 1].
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
    """The value function's prediction V(s_t) for each step. Truncated episodes are bootstrapped with it.

    The value function is fitted after the policy's gradient step. The baseline therefore depends on earlier batches
    only.

    Args:
        value: The value function.
    """

    explains = True

    def __init__(self, value: ValueFunction) -> None:
        self._value = value

    def rewards(self, trajectory: Trajectory, gamma: float) -> Floats:
        """Returns the bootstrapped rewards; see :func:`pgkeras.reinforce.returns.bootstrapped`."""
        final_values = self._value.predict(trajectory.final_observations)
        truncated = ~trajectory.terminated
        return returns_.bootstrapped(trajectory.rewards, trajectory.lengths, truncated, gamma, final_values)

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
        truncated = ~trajectory.terminated  # the final observation of a terminal episode is not used
        yield "final observation", np.where(truncated.reshape(-1, *[1] * (finals.ndim - 1)), finals, 0)
        yield "value prediction", self.of(trajectory, trajectory.rewards)
        yield "value prediction of the final observation", np.where(truncated, self._value.predict(finals), 0.0)

    def state(self) -> dict[str, NDArray[Any]]:
        """See :class:`NoBaseline`."""
        return self._value.state()

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """See :class:`NoBaseline`."""
        self._value.restore(state)
