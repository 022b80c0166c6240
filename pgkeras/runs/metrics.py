"""The metrics of one epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from pgkeras.reinforce.learner import UpdateMetrics

__all__ = ["EpochMetrics"]


@dataclass(frozen=True, kw_only=True)
class EpochMetrics(UpdateMetrics):
    """The metrics of one epoch, by their names in ``metrics.jsonl``."""

    epoch: int
    env_steps: int  # since the run began, as are episodes and seconds
    episodes: int
    seconds: float
    return_mean: float  # of this epoch's episodes, undiscounted
    return_min: float
    return_max: float
    mean_return_100: float  # of the last hundred episodes, or of all so far
    episode_length: float  # mean, in steps
    idle_steps: int  # stepped by vector environments, but of no episode that was asked for
    episodes_lost: int  # broken off by simulators that left or fell silent, and played anew by others
    collect_seconds: float  # phase one
    learn_seconds: float  # phase two
    steps_per_second: float
    reported: Mapping[str, float] = field(default_factory=dict)  # by callbacks

    def record(self) -> dict[str, float]:
        """All of it by name, as ``metrics.jsonl`` has it."""
        values = asdict(self)
        reported = values.pop("reported")
        return {**values, **reported}
