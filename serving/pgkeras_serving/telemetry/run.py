"""A run that learns from simulators, as the status page and the metrics tell of it."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["RunStatus", "SimulatorStatus"]


@dataclass(frozen=True)
class SimulatorStatus:
    """A simulator that is connected.

    Args:
        name: What it calls itself.
        environments: How many it steps side by side.
        steps_per_second: How fast it has been, since a moment ago.
        episodes: Episodes that it has played to their ends.
    """

    name: str
    environments: int
    steps_per_second: float
    episodes: int


@dataclass(frozen=True)
class RunStatus:
    """A run.

    Args:
        name: Its policy's name.
        spaces: What is observed and done, for people; empty before a simulator has declared it.
        epoch: Epochs that are finished.
        env_steps: Environment steps of their episodes.
        returns: The mean return of each, the last few hundred.
        entropy: The policy's, mean per step, in nats; NaN before the first epoch.
        episodes_lost: Episodes that broke off.
        simulators: Who is connected.
    """

    name: str
    spaces: str
    epoch: int = 0
    env_steps: int = 0
    returns: list[float] = field(default_factory=list)
    entropy: float = float("nan")
    episodes_lost: int = 0
    simulators: list[SimulatorStatus] = field(default_factory=list)
