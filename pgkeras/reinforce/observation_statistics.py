"""Running statistics of observations, for normalization in the policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from pgkeras.environments.trajectory import Trajectory
from pgkeras.policy.moments import Moments
from pgkeras.policy.networks import ObservationNormalization

__all__ = ["ObservationStatistics"]


class ObservationStatistics:
    """Running mean and variance of all observations, copied to the policy's normalization layer.

    Args:
        normalization: The policy's normalization layer.
        shape: Shape of an observation's row.
    """

    def __init__(self, normalization: ObservationNormalization, shape: tuple[int, ...]) -> None:
        self._normalization = normalization
        self._moments = Moments.zeros(shape)

    def update(self, trajectory: Trajectory) -> None:
        """Adds the observations of a batch and copies the statistics to the normalization layer."""
        self._moments.update(trajectory.observations[trajectory.mask])
        self._normalization.freeze(self._moments)

    def state(self) -> dict[str, Any]:
        """Returns the statistics for a checkpoint, by name."""
        return self._moments.state("observations_")

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restores a :meth:`state`. The copy in the normalization layer is restored with the policy's weights."""
        self._moments.restore(state, "observations_")
