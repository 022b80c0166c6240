"""Plays gymnasium environments in a session with a policy server: a simulator as one in any language would be.

Where a policy is in training, it learns from them; elsewhere they are just played.
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
from pgkeras.environments.plain import native
from pgkeras.environments.rows import action_mask, as_reward
from pgkeras.errors import DeadlineExceededError, EnvironmentStepError, PolicyServiceError, ServerUnavailableError
from pgkeras.spaces import actions_from_gymnasium, observations_from_gymnasium
from pgkeras.spaces.layout import ACTION_MASK, without_mask
from pgkeras.spaces.masks import flat_mask

__all__ = ["Simulator"]

_RECENT = 100
_RETRY_SECONDS = 0.5


class Simulator:
    """Some copies of an environment, played side by side in one session.

    Args:
        environments: The copies.
        seed: Of their first resets.
        name: What the session calls itself.
        episodes: How many count: each copy's share of them, since the first to finish would be the short ones. What a
            copy plays beyond its share, until the others are done, does not count. None: all that end.

    Raises:
        EnvironmentSetupError: One does not do what gymnasium's environments do.
        UnsupportedSpaceError: A space is not supported.

    Attributes:
        steps: Steps taken.
        episodes: Episodes that have ended, of those that count.
        returns: The returns of the last hundred of them.
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
        self._masked = check_interface(first, self._called)
        self._space = without_mask(observations_from_gymnasium(first.observation_space))
        self._action_space = first.action_space
        self._actions = actions_from_gymnasium(first.action_space)
        self._native = native(first.action_space)
        self._asked = 0.0  # when it last asked for actions
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
        """Plays until it is over; connects again when the server has gone, as one that is restarted has.

        Args:
            client: A client of the server.
            is_over: Is asked before every step.
            patience: Seconds for which a server that does not answer is tried again.
            mode: "sample" or "greedy"; a policy in training samples.
            tell: Is told why no server answers, each time it is tried in vain, and whether a session has just ended.

        Raises:
            ServerUnavailableError: Nobody has answered for that long.
            DeadlineExceededError: Likewise.
            PolicyServiceError: The server refuses what is played.
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
            except (ServerUnavailableError, DeadlineExceededError) as error:  # as of a session idle for too long
                has_played = session is not None and session.heard is not None
                if session is not None and session.heard is not None:
                    heard = max(session.heard, self._asked)  # how long a reset takes is nobody's patience
                if tell is not None:
                    tell(error, has_played)
                if time.monotonic() - heard > patience:
                    raise
                time.sleep(_RETRY_SECONDS)

    @property
    def _called(self) -> str:
        return self._name or "the environment"

    def close(self) -> None:
        """Closes the environments."""
        for environment in self._environments:
            environment.close()

    def _play(self, session: PlaySession, is_over: Callable[[], bool]) -> None:
        rows = len(self._environments)
        shown: list[Any] = [self._reset(i) for i in range(rows)]
        totals = np.zeros(rows)
        over = np.zeros(rows, np.bool_)
        actions = self._native(self._step(session, shown))
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
                    shown[i] = self._reset(i)
                elif not hold[i]:
                    with self._failing("step"):
                        observation, earned, terminated[i], truncated[i], info = environment.step(actions[i])
                        reward[i] = as_reward(earned)
                    shown[i] = observation, info
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
            actions = self._native(self._step(session, shown, reward, terminated, truncated, episode_start=starts))

    def _reset(self, i: int) -> Any:
        seed, self._seeds[i] = self._seeds[i], None
        with self._failing("reset"):
            return self._environments[i].reset(seed=seed)

    @contextmanager
    def _failing(self, method: str) -> Iterator[None]:
        try:
            yield
        except (Exception, SystemExit) as error:  # an environment may raise anything
            raise EnvironmentStepError(f"{self._called} failed at {method}: {describe_error(error)}") from error

    def _step(self, session: PlaySession, shown: list[Any], *outcome: Any, **starts: Any) -> Any:
        masks = [action_mask(observation, info) for observation, info in shown]
        self._masked |= any(mask is not None for mask in masks)
        if self._masked:
            starts["action_mask"] = np.stack([flat_mask(mask, self._actions, 0) for mask in masks]).astype(np.bool_)
        observations = [_without_mask(observation) for observation, _ in shown]
        self._asked = time.monotonic()
        return session.step(_stacked(observations), *outcome, **starts)


def _without_mask(observation: Any) -> Any:
    if isinstance(observation, Mapping):
        return {key: part for key, part in observation.items() if key != ACTION_MASK}
    return observation


def _stacked(observations: list[Any]) -> Any:
    """Observations as one batch: structures of arrays, and lists of texts."""
    first = observations[0]
    if isinstance(first, Mapping):
        return {key: _stacked([one[key] for one in observations]) for key in first}
    if isinstance(first, tuple):
        return tuple(_stacked([one[i] for one in observations]) for i in range(len(first)))
    return observations if isinstance(first, str) else np.stack([np.asarray(one) for one in observations])
