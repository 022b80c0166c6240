"""The environments of ``benchmarks.defaults``: 20 of many kinds. The defaults were tuned for none of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CASES", "Case"]

_MINIGRID = ("minigrid.wrappers:ImgObsWrapper",)
_FLAT = "gymnasium.wrappers:FlattenObservation"


@dataclass(frozen=True)
class Case:
    """An environment and its configuration for all learners.

    Args:
        env_id: The id, as ``module:id`` if a module registers it.
        kwargs: Keyword arguments of the environment.
        wrappers: Wrappers, ``module:Name``, the same for all learners.
        settings: Settings of pgkeras in addition to the defaults, if the task requires one (memory).
        continuous: Whether the actions are continuous.
        peer_policy: Policy class in Stable-Baselines3.
        peer_wrappers: Wrappers that Stable-Baselines3 needs for the observations.
        is_unlimited: Whether the registration has no limit on the length of episodes.
        evaluation_steps: Steps after which an evaluation truncates an episode, if the environment has no limit.
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
