"""A policy plays the environments whose spaces are its own, and is told what differs in others."""

from __future__ import annotations

import re
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from pgkeras.environments import PlainEnvironments
from pgkeras.environments.collect import Choice
from pgkeras.errors import UnsupportedSpaceError
from pgkeras.evaluation import evaluate
from pgkeras.spaces import Box, Discrete
from pgkeras.spaces.spec import PolicySpec


class Brief(gymnasium.Env[Any, Any]):
    """Ends at the first step."""

    observation_space = spaces.Box(np.array([-0.1, -2.0], np.float32), np.array([0.1, 2.0], np.float32))
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(2, np.float32), 1.0, True, False, {}


class Zero:
    """Takes action 0."""

    def __init__(self, bound: float) -> None:
        high = np.array([0.1, bound])  # 0.1 is another number in float64 than in float32
        self.spec = PolicySpec.by_default(Box(-high, high, np.dtype(np.float32)), Discrete(2))

    def act(self, observation: Any, noise: Any, state: Any) -> Choice:
        action = np.zeros(len(noise), np.int64)
        return action, action, None


def test_what_differs_is_named_where_bounds_alone_do() -> None:
    told = "the policy's observation space is Box.*, but the environment's is Box.*: bound low[1] -3.0 and -2.0"
    with pytest.raises(UnsupportedSpaceError, match=re.escape(told).replace(r"\.\*", ".*")):
        evaluate(Zero(3.0), PlainEnvironments([Brief()]), 1, 0)


def test_bounds_that_were_computed_in_another_type_are_the_same() -> None:
    assert evaluate(Zero(2.0), PlainEnvironments([Brief()]), 2, 0).returns.tolist() == [1.0, 1.0]


def test_actions_that_differ_are_named() -> None:
    policy = Zero(2.0)
    policy.spec = PolicySpec.by_default(policy.spec.observation_space, Discrete(3))
    with pytest.raises(UnsupportedSpaceError, match="the policy's action space is"):
        evaluate(policy, PlainEnvironments([Brief()]), 1, 0)
