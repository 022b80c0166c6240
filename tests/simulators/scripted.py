"""Simulators whose transitions depend only on the actions, without seeds, so that episodes are reproducible."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from pgkeras.client import PolicyClient
from pgkeras.errors import PolicyServiceError
from pgkeras.spaces import Box, Discrete

__all__ = ["ACTIONS", "MOST_STEPS", "OBSERVATIONS", "ScriptedSimulator", "Streak", "exact_gradient"]

MOST_STEPS = 5
OBSERVATIONS = Box(np.zeros(2), np.full(2, 10.0), np.dtype(np.float32))
ACTIONS = Discrete(2)


class Streak(gymnasium.Env[Any, Any]):
    """Action 1 earns 1 and continues; action 0 ends the episode. Episodes are truncated after five steps."""

    observation_space = gymnasium.spaces.Box(0, 10, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._steps = 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        return self._observation(), float(action), not action, self._steps == MOST_STEPS and bool(action), {}

    def _observation(self) -> np.ndarray:
        return np.array([self._steps, 1.0], np.float32)


gymnasium.register("Streak-v0", Streak)


def exact_gradient(p: float) -> float:
    """Returns the gradient of the expected return with respect to the logit of P(action 1) = p, by enumeration."""
    total = 0.0
    for ones in range(MOST_STEPS + 1):
        actions = [1.0] * ones + [0.0] * (ones < MOST_STEPS)
        probability = p**ones * (1 - p if ones < MOST_STEPS else 1.0)
        total += probability * sum((a - p) * sum(actions[t:]) for t, a in enumerate(actions))
    return total


class ScriptedSimulator(threading.Thread):
    """Plays copies of :class:`Streak` in one session, until the run ends or ``before`` returns True.

    Args:
        target: Address to connect to.
        rows: Number of copies.
        same_step: Whether the message that ends an episode has the first observation of the next.
        holds: Whether the simulator holds copies when the run asks for it.
        before: Called before each message with the number of messages sent. It may sleep, or return True to disconnect.
        options: Options of the session.
    """

    def __init__(
        self,
        target: str,
        rows: int = 1,
        *,
        same_step: bool = False,
        holds: bool = True,
        before: Callable[[int], bool | None] = lambda sent: None,
        **options: Any,
    ) -> None:
        super().__init__(daemon=True)
        self.failure: Exception | None = None
        self.sent = self.steps = 0
        self._target, self._rows, self._same_step, self._holds, self._before = target, rows, same_step, holds, before
        self._options = {"observation_space": OBSERVATIONS, "action_space": ACTIONS, "environments": rows} | options
        self.start()

    def run(self) -> None:
        try:
            with PolicyClient(self._target, timeout=60.0) as client, client.play(**self._options) as session:
                self._play(session)
        except PolicyServiceError as error:
            self.failure = error

    def _play(self, session: Any) -> None:
        copies = [Streak() for _ in range(self._rows)]
        observation = np.array([copy.reset()[0] for copy in copies])
        starts, transition = np.ones(self._rows, np.bool_), None
        while not self._before(self.sent):
            self.sent += 1
            actions = session.step(observation, *(transition or ()), episode_start=starts)
            hold = np.zeros(self._rows, np.bool_)
            if self._holds and session.hold is not None:
                hold = session.hold
            over = np.zeros(self._rows, np.bool_)
            if transition is not None and not self._same_step:
                over = transition[1] | transition[2]
            reward, starts = np.zeros(self._rows, np.float32), hold | over
            terminated, truncated = np.zeros(self._rows, np.bool_), np.zeros(self._rows, np.bool_)
            for i, copy in enumerate(copies):
                if over[i]:
                    observation[i] = copy.reset()[0]
                elif not hold[i]:
                    observation[i], reward[i], terminated[i], truncated[i], _ = copy.step(int(actions[i]))
                    self.steps += 1
                    if self._same_step and (terminated[i] or truncated[i]):
                        observation[i], starts[i] = copy.reset()[0], True
            transition = reward, terminated, truncated
