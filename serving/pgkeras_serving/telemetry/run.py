"""Status of a training run that learns from simulators, for the status page and the metrics."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["RunStatus", "SimulatorStatus"]


@dataclass(frozen=True)
class SimulatorStatus:
    """A connected simulator.

    Args:
        name: The name that it has declared.
        environments: Number of its environments.
        steps_per_second: Its recent speed.
        episodes: Number of episodes that it has finished.
    """

    name: str
    environments: int
    steps_per_second: float
    episodes: int


@dataclass(frozen=True)
class RunStatus:
    """A training run.

    Args:
        name: Name of its policy.
        spaces: Observation and action space as text; empty before a simulator has declared them.
        epoch: Number of finished epochs.
        env_steps: Environment steps of these epochs.
        returns: Mean return of each of the last few hundred epochs.
        entropy: Mean entropy of the policy per step, in nats; NaN before the first epoch.
        episodes_lost: Number of episodes that were interrupted.
        simulators: The connected simulators.
    """

    name: str
    spaces: str
    epoch: int = 0
    env_steps: int = 0
    returns: list[float] = field(default_factory=list)
    entropy: float = float("nan")
    episodes_lost: int = 0
    simulators: list[SimulatorStatus] = field(default_factory=list)
