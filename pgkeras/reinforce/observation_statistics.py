"""Statistics of the observations of training, which the policy normalises by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from pgkeras.environments.trajectory import Trajectory
from pgkeras.policy.moments import Moments
from pgkeras.policy.networks import ObservationNormalization

__all__ = ["ObservationStatistics"]


class ObservationStatistics:
    """Running mean and variance of all observations, kept in the policy's normalisation.

    Args:
        normalization: The policy's.
        shape: Of an observation's row.
    """

    def __init__(self, normalization: ObservationNormalization, shape: tuple[int, ...]) -> None:
        self._normalization = normalization
        self._moments = Moments.zeros(shape)

    def update(self, trajectory: Trajectory) -> None:
        """Takes note of the observations of a batch, by which those after it are normalised."""
        self._moments.update(trajectory.observations[trajectory.mask])
        self._normalization.freeze(self._moments)

    def state(self) -> dict[str, Any]:
        """The statistics by name, for the checkpoint."""
        return self._moments.state("observations_")

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restores a :meth:`state`. The normalisation's own are weights of the policy."""
        self._moments.restore(state, "observations_")
