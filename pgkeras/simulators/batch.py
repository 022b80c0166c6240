"""A batch of episodes that is being played: how many each environment is to play, and what is computed for all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.environments.collect import Actor, quotas
from pgkeras.environments.trajectory import Trajectory
from pgkeras.errors import EnvironmentStepError

if TYPE_CHECKING:
    from pgkeras.simulators.session import LearningSession

__all__ = ["Batch"]


class Batch:
    """A number of episodes, which environment plays how many of them, and what has become of them.

    Which episodes count is fixed before they are played: slot i of all environments plays every ``slots``-th of them.
    Where there are fewer episodes than environments, these take turns from epoch to epoch. Only a session that leaves
    changes that: what it had left to play is handed on.

    Args:
        actor: What acts. It is called on the event loop, or in a thread if ``in_thread``.
        episodes: How many are to be played.
        seed: Of the noise. Its first spawn key, an epoch's number, says whose turn it is.
        in_thread: Whether acting takes so long that it would hold up the event loop.
        endless_steps: Steps of each environment without the end of an episode after which to give up.
    """

    def __init__(
        self, actor: Actor, episodes: int, seed: np.random.SeedSequence, in_thread: bool, endless_steps: int
    ) -> None:
        self.actor = actor
        self.episodes = episodes
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.steps = self.finished = self.lost = 0
        self._seed = seed
        self._in_thread = in_thread
        self._endless_steps = endless_steps
        self._players: list[LearningSession] = []
        self._orphaned = 0  # episodes that nobody is there to play
        self._since_end = 0
        self._waiting: list[_Request] = []

    def begin(self, sessions: list[LearningSession]) -> None:
        """Fixes who plays what.

        Args:
            sessions: Who plays.
        """
        slots = sum(session.rows for session in sessions)
        # By the epoch, and not by the batches that this process has played: a resumed run would go on with others.
        epoch = self._seed.spawn_key[0] if self._seed.spawn_key else 0
        first = -(epoch * self.episodes) % slots if self.episodes < slots else 0
        for session in sessions:
            places = np.arange(first, first + session.rows) % slots
            first += session.rows
            self._join(session, quotas(self.episodes, slots)[places])

    def take_in(self, sessions: Sequence[LearningSession]) -> None:
        """Has those who have come while the batch is played play what those who left have left over."""
        waiting = [session for session in sessions if session not in self._players]
        if not waiting or not self._orphaned or self.done.done():
            return
        quotas = _shared_out(self._orphaned, np.zeros(sum(session.rows for session in waiting), np.int64))
        self._orphaned = 0
        for session in waiting:
            self._join(session, quotas[: session.rows])
            quotas = quotas[session.rows :]

    def leave(self, session: LearningSession) -> None:
        """Hands on what a session had left to play. What it has finished counts."""
        if session not in self._players or self.done.done():
            return
        self.lost += session.slots.under_way
        left = session.slots.give_up()
        others = [player for player in self._players if player.is_open and player is not session]
        if not others:
            self._orphaned += left
            return
        quotas = _shared_out(left, np.concatenate([player.slots.remaining for player in others]))
        for player in others:
            player.take_on(quotas[: player.rows])
            quotas = quotas[player.rows :]

    def end(self, failure: Exception | None = None) -> None:
        """Ends the batch, also one that was cancelled: its episodes are all there, or will not be."""
        if not self.done.done():
            if failure is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(failure)
        for player in self._players:
            if player.plays(self):  # and not the next one by now
                player.slots.give_up()

    def episode_ended(self) -> None:
        """Counts an episode."""
        self.finished += 1
        self._since_end = 0
        if self.finished == self.episodes:
            self.end()

    def trajectory(self) -> Trajectory:
        """The episodes, in the order of the environments that played them."""
        return Trajectory.join([part for player in self._players if (part := player.cut(self)) is not None])

    async def act(
        self, observation: NDArray[Any], drawn: NDArray[np.float32], state: NDArray[np.float32] | None
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float32] | None]:
        """Chooses actions, together with all that is asked in the same turn of the event loop.

        Raises:
            EnvironmentStepError: No episode has ended for too long.
        """
        self.steps += len(drawn)
        self._since_end += 1
        if self._since_end > self._endless_steps * max(1, len(self._players)):
            self.end(
                EnvironmentStepError(
                    f"no episode of any simulator ended within {self._endless_steps:,} steps of each (endless_steps); "
                    "whole episodes are needed: have the simulator say truncated"
                )
            )
        loop = asyncio.get_running_loop()
        request = _Request(observation, drawn, state, loop.create_future())
        self._waiting.append(request)
        if len(self._waiting) == 1:
            loop.call_soon(self._compute)
        try:
            answer: tuple[NDArray[Any], NDArray[Any], NDArray[np.float32] | None] = await request.answer
        except Exception as error:  # of any kind: the run has to hear of it, or it would wait for ever
            self.end(error)
            raise
        return answer

    def _join(self, session: LearningSession, quota: NDArray[np.int64]) -> None:
        # A run with one session draws the noise that a run in this process does.
        number = len(self._players)
        spawn_key = (*self._seed.spawn_key, number) if number else self._seed.spawn_key
        self._players.append(session)
        session.play(self, quota, np.random.SeedSequence(self._seed.entropy, spawn_key=spawn_key))

    def _compute(self) -> None:
        requests, self._waiting = self._waiting, []
        if self._in_thread:
            loop = asyncio.get_running_loop()
            loop.run_in_executor(None, self._outcome, requests).add_done_callback(
                lambda outcome: _deliver(requests, outcome.result())
            )
        else:
            _deliver(requests, self._outcome(requests))

    def _outcome(self, requests: list[_Request]) -> Any:
        try:
            if len(requests) == 1:
                first = requests[0]
                return [self.actor.act(first.observation, first.noise, first.state)]
            return _together(self.actor, requests)
        except Exception as error:
            return error


class _Request:
    def __init__(
        self,
        observation: NDArray[Any],
        drawn: NDArray[np.float32],
        state: NDArray[np.float32] | None,
        answer: asyncio.Future[Any],
    ) -> None:
        self.observation, self.noise, self.state, self.answer = observation, drawn, state, answer


def _together(actor: Actor, requests: list[_Request]) -> list[Any]:
    """All requests in one batch, padded to a power of two: the actor keeps memory for every size that it has seen."""
    observation = np.concatenate([request.observation for request in requests])
    drawn = np.concatenate([request.noise for request in requests])
    states = [request.state for request in requests if request.state is not None]
    state = np.concatenate(states) if states else None
    rows = len(drawn)
    spare = (1 << (rows - 1).bit_length()) - rows
    samples, actions, after = actor.act(
        _padded(observation, spare), _padded(drawn, spare), None if state is None else _padded(state, spare)
    )
    answers, first = [], 0
    for request in requests:
        part = slice(first, first + len(request.noise))
        first = part.stop
        answers.append((samples[part], actions[part], None if after is None else after[part]))
    return answers


def _padded(array: NDArray[Any], spare: int) -> NDArray[Any]:
    # By rows that are there: a mask of zeros would allow no action.
    return np.concatenate([array, np.repeat(array[:1], spare, axis=0)]) if spare else array


def _deliver(requests: list[_Request], outcome: Any) -> None:
    for i, request in enumerate(requests):
        if request.answer.done():  # its simulator has left
            continue
        if isinstance(outcome, Exception):
            request.answer.set_exception(outcome)
        else:
            request.answer.set_result(outcome[i])


def _shared_out(episodes: int, quotas: NDArray[np.int64]) -> NDArray[np.int64]:
    """What to add to some quotas, so that whoever has least to play gets more."""
    more = np.zeros_like(quotas)
    for _ in range(episodes):
        more[int(np.argmin(quotas + more))] += 1
    return more
