"""Environments that are stepped one after the other in this process."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from pgkeras.environments.check import check_interface
from pgkeras.environments.protocol import Rows, name_of
from pgkeras.environments.rows import put_reward
from pgkeras.environments.trajectory import Tape

__all__ = ["PlainEnvironments", "action_splitter", "seed_globals"]


class PlainEnvironments:
    """Environments that are stepped one after the other. An environment is reset in the step that ends its episode.

    There is no reset after the last episode of a slot, because a reset may take as long as 100 steps.
    """

    gap = 0
    lockstep = False

    def __init__(self, environments: Sequence[gymnasium.Env[Any, Any]]) -> None:
        self._environments = list(environments)
        first = self._environments[0]
        self.observation_space, self.action_space, self.spec = first.observation_space, first.action_space, first.spec
        self.slots = len(self._environments)
        self._split_actions = action_splitter(self.action_space)

    def check(self) -> bool:
        """See :meth:`Environments.check`."""
        return check_interface(self._environments[0], name_of(self))

    def reset(self, seeds: Sequence[int], tape: Rows) -> None:
        """See :meth:`Environments.reset`."""
        seed_globals(seeds)
        for i, (env, seed) in enumerate(zip(self._environments, seeds, strict=True)):
            tape.put(0, i, *env.reset(seed=seed))

    def step(self, t: int, actions: Any, remaining: NDArray[np.int64], tape: Tape) -> bool:
        """See :meth:`Environments.step`."""
        choices = self._split_actions(actions)
        any_ended = False
        left = remaining.tolist()
        for i, env in enumerate(self._environments):
            if left[i]:
                observation, reward, terminated, truncated, info = env.step(choices[i])
                put_reward(tape.rewards, t, i, reward)
                if terminated or truncated:
                    any_ended = tape.ended[t, i] = True
                    tape.terminated[t, i] = terminated
                    tape.put_final(t, i, observation, info)
                    if left[i] == 1:
                        continue
                    observation, info = env.reset()
                tape.put(t + 1, i, observation, info)
        return any_ended

    def close(self) -> None:
        """See :meth:`Environments.close`."""
        for env in self._environments:
            env.close()


def seed_globals(seeds: Sequence[int]) -> None:
    """Seeds the global generators of Python and NumPy, because some environments draw from them."""
    random.seed(seeds[0])
    np.random.seed(seeds[0] % 2**32)


def action_splitter(space: gymnasium.Space[Any]) -> Callable[[Any], Any]:
    """Returns a function that splits a batch of actions into one action per environment."""
    if isinstance(space, gymnasium.spaces.Dict):
        inner = {key: action_splitter(part) for key, part in space.spaces.items()}
        return lambda actions: [
            dict(zip(inner, row, strict=True))
            for row in zip(*(split(actions[key]) for key, split in inner.items()), strict=True)
        ]
    if isinstance(space, gymnasium.spaces.Tuple):
        splits = [action_splitter(part) for part in space.spaces]
        return lambda actions: list(zip(*(splits[i](part) for i, part in enumerate(actions)), strict=True))
    if isinstance(space, gymnasium.spaces.Discrete):
        return lambda actions: actions.tolist()  # environments handle Python integers faster than NumPy's
    if space.shape == ():
        return lambda actions: [actions[i, ...] for i in range(len(actions))]  # actions[i] would be a scalar
    return lambda actions: actions
