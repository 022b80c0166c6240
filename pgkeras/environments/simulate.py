"""A simulator: plays gymnasium environments in a session with a policy server, as simulators in any language do.

A policy in training learns from the episodes; any other server only chooses the actions.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np

from pgkeras.client.client import PolicyClient
from pgkeras.client.session import PlaySession
from pgkeras.environments.check import check_interface, describe_error
from pgkeras.environments.collect import quotas
from pgkeras.environments.plain import action_splitter
from pgkeras.environments.rows import action_mask, as_reward
from pgkeras.errors import DeadlineExceededError, EnvironmentStepError, PolicyServiceError, ServerUnavailableError
from pgkeras.spaces import actions_from_gymnasium, observations_from_gymnasium
from pgkeras.spaces.layout import ACTION_MASK, without_mask
from pgkeras.spaces.masks import flat_mask

__all__ = ["Simulator"]

_RECENT = 100
_RETRY_SECONDS = 0.5


class Simulator:
    """Plays several copies of an environment side by side in one session.

    Args:
        environments: The copies.
        seed: Seed of their first resets.
        name: Name of the session.
        episodes: Number of episodes to count, split evenly over the copies, because counting the first to finish would
            favor short episodes. A copy plays on until the others are done, but its additional episodes do not count.
            None counts all episodes.

    Raises:
        EnvironmentSetupError: An environment does not follow gymnasium's interface.
        UnsupportedSpaceError: A space is not supported.

    Attributes:
        steps: Number of steps so far.
        episodes: Number of counted episodes that have ended.
        returns: Returns of the last 100 of them.
    """

    def __init__(
        self,
        environments: Sequence[gymnasium.Env[Any, Any]],
        seed: int = 0,
        name: str = "",
        episodes: int | None = None,
    ) -> None:
        self._environments = list(environments)
        self._left = None if episodes is None else quotas(episodes, len(self._environments))
        self._name = name
        self._seeds: list[int | None] = [seed + i for i in range(len(self._environments))]
        first = self._environments[0]
        self._masked = check_interface(first, self._label)
        self._space = without_mask(observations_from_gymnasium(first.observation_space))
        self._action_space = first.action_space
        self._actions = actions_from_gymnasium(first.action_space)
        self._split_actions = action_splitter(first.action_space)
        self._requested = 0.0  # time of the last request
        self.steps = self.episodes = 0
        self.returns: deque[float] = deque(maxlen=_RECENT)

    def run(
        self,
        client: PolicyClient,
        is_over: Callable[[], bool],
        patience: float,
        mode: Any = "sample",
        tell: Callable[[PolicyServiceError, bool], None] | None = None,
    ) -> None:
        """Plays until ``is_over`` returns True. Reconnects if the connection is lost, for example by a server restart.

        Args:
            client: A client of the server.
            is_over: Called before every step.
            patience: Seconds to retry a server that does not respond.
            mode: "sample" or "greedy"; a policy in training requires "sample".
            tell: Called after every failed attempt with the error, and with True if a session has just ended.

        Raises:
            ServerUnavailableError: The server did not respond for ``patience`` seconds.
            DeadlineExceededError: The server did not respond for ``patience`` seconds.
            PolicyServiceError: The server rejects a request.
            EnvironmentStepError: An environment failed.
        """
        heard = time.monotonic()
        while not is_over():
            session: PlaySession | None = None
            try:
                with client.play(
                    mode,
                    observation_space=self._space,
                    action_space=self._action_space,
                    environments=len(self._environments),
                    name=self._name,
                ) as session:
                    self._play(session, is_over)
            except (ServerUnavailableError, DeadlineExceededError) as error:  # the latter if a session was idle
                has_played = session is not None and session.heard is not None
                if session is not None and session.heard is not None:
                    heard = max(session.heard, self._requested)  # the time of a reset does not count
                if tell is not None:
                    tell(error, has_played)
                if time.monotonic() - heard > patience:
                    raise
                time.sleep(_RETRY_SECONDS)

    @property
    def _label(self) -> str:
        return self._name or "the environment"

    def close(self) -> None:
        """Closes the environments."""
        for environment in self._environments:
            environment.close()

    def _play(self, session: PlaySession, is_over: Callable[[], bool]) -> None:
        rows = len(self._environments)
        current: list[Any] = [self._reset(i) for i in range(rows)]  # observation and info
        totals = np.zeros(rows)
        over = np.zeros(rows, np.bool_)
        actions = self._split_actions(self._step(session, current))
        while not is_over():
            hold = np.zeros(rows, np.bool_) if session.hold is None else session.hold
            starts = over | hold
            reward, terminated, truncated = (
                np.zeros(rows, np.float32),
                np.zeros(rows, np.bool_),
                np.zeros(rows, np.bool_),
            )
            for i, environment in enumerate(self._environments):
                if over[i]:
                    current[i] = self._reset(i)
                elif not hold[i]:
                    with self._step_errors("step"):
                        observation, given, terminated[i], truncated[i], info = environment.step(actions[i])
                        reward[i] = as_reward(given)
                    current[i] = observation, info
                    totals[i] += reward[i]
                    self.steps += 1
            over = terminated | truncated
            for i in np.flatnonzero(over).tolist():
                if self._left is None or self._left[i] > 0:
                    self.returns.append(float(totals[i]))
                    self.episodes += 1
                if self._left is not None:
                    self._left[i] -= 1
                totals[i] = 0.0
            step = self._step(session, current, reward, terminated, truncated, episode_start=starts)
            actions = self._split_actions(step)

    def _reset(self, i: int) -> Any:
        seed, self._seeds[i] = self._seeds[i], None
        with self._step_errors("reset"):
            return self._environments[i].reset(seed=seed)

    @contextmanager
    def _step_errors(self, method: str) -> Iterator[None]:
        try:
            yield
        except (Exception, SystemExit) as error:  # an environment may raise anything
            raise EnvironmentStepError(f"{self._label} failed at {method}: {describe_error(error)}") from error

    def _step(self, session: PlaySession, current: list[Any], *transition: Any, **options: Any) -> Any:
        masks = [action_mask(observation, info) for observation, info in current]
        self._masked |= any(mask is not None for mask in masks)
        if self._masked:
            options["action_mask"] = np.stack([flat_mask(mask, self._actions, 0) for mask in masks]).astype(np.bool_)
        observations = [_without_mask(observation) for observation, _ in current]
        self._requested = time.monotonic()
        return session.step(_stack(observations), *transition, **options)


def _without_mask(observation: Any) -> Any:
    if isinstance(observation, Mapping):
        return {key: part for key, part in observation.items() if key != ACTION_MASK}
    return observation


def _stack(observations: list[Any]) -> Any:
    """Stacks observations into a batch: a structure of arrays and of lists of texts."""
    first = observations[0]
    if isinstance(first, Mapping):
        return {key: _stack([one[key] for one in observations]) for key in first}
    if isinstance(first, tuple):
        return tuple(_stack([one[i] for one in observations]) for i in range(len(first)))
    return observations if isinstance(first, str) else np.stack([np.asarray(one) for one in observations])
