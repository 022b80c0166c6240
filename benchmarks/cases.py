"""The environments of ``benchmarks.defaults``: twenty of many kinds, for none of which the defaults were tuned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CASES", "Case"]

_MINIGRID = ("minigrid.wrappers:ImgObsWrapper",)
_FLAT = "gymnasium.wrappers:FlattenObservation"


@dataclass(frozen=True)
class Case:
    """An environment, and what a learner must be told about it.

    Args:
        env_id: ``module:id`` where a module registers it.
        kwargs: Keyword arguments of the environment.
        wrappers: Wrappers, ``module:Name``, the same for all learners.
        settings: Settings of pgkeras beside the defaults, where the task itself asks for one (memory).
        continuous: Whether its actions are continuous.
        peer_policy: Class of policy in Stable-Baselines3.
        peer_wrappers: Wrappers without which Stable-Baselines3 does not take the observations.
        is_unlimited: Whether its registration has no limit on the length of episodes.
        evaluation_steps: Steps after which an evaluation's episode is truncated, where the environment has no limit.
    """

    env_id: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrappers: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    continuous: bool = False
    peer_policy: str = "MlpPolicy"
    peer_wrappers: tuple[str, ...] = ()
    is_unlimited: bool = False
    evaluation_steps: int | None = None


CASES = {
    case.env_id.rpartition(":")[2]: case
    for case in (
        Case("Blackjack-v1", is_unlimited=True, peer_wrappers=(_FLAT,)),
        Case("FrozenLake-v1"),
        Case("CliffWalking-v1", is_unlimited=True, evaluation_steps=500),
        Case("Taxi-v4"),
        Case("CartPole-v1"),
        Case("Acrobot-v1"),
        Case("MountainCarContinuous-v0", continuous=True),
        Case("Pendulum-v1", continuous=True),
        Case("LunarLander-v3"),
        Case("BipedalWalker-v3", continuous=True),
        Case("CarRacing-v3", continuous=True, peer_policy="CnnPolicy"),
        Case("Hopper-v5", continuous=True),
        Case("HalfCheetah-v5", continuous=True),
        Case("Pusher-v5", continuous=True),
        Case("minigrid:MiniGrid-Empty-5x5-v0", wrappers=_MINIGRID, is_unlimited=True),
        Case("minigrid:MiniGrid-DoorKey-5x5-v0", wrappers=_MINIGRID, is_unlimited=True),
        Case("minigrid:MiniGrid-MemoryS7-v0", wrappers=_MINIGRID, settings={"memory": "gru"}, is_unlimited=True),
        Case("benchmarks.environments:MinAtar/Breakout-v1", is_unlimited=True, evaluation_steps=5_000),
        Case("flappy_bird_gymnasium:FlappyBird-v0", {"use_lidar": False}, is_unlimited=True, evaluation_steps=5_000),
        Case("highway_env:highway-fast-v0", is_unlimited=True),
    )
}
