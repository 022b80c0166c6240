"""A batch of episodes: assigns episodes to environments, and batches the requests for actions."""

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
    """A batch of episodes, their assignment to sessions, and its progress.

    The episodes that count are fixed before they are played: slot i of all environments plays every ``slots``-th
    episode. If there are fewer episodes than environments, the environments take turns from epoch to epoch. Only a
    session that disconnects changes the assignment: its remaining episodes are assigned to other sessions.

    Args:
        actor: Chooses the actions. It is called on the event loop, or in a thread if ``in_thread``.
        episodes: Number of episodes.
        seed: Seed of the noise. Its first spawn key is the epoch, which determines whose turn it is.
        in_thread: Whether acting would block the event loop for too long.
        endless_steps: Steps per environment without the end of an episode after which the batch fails.
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
        self._sessions: list[LearningSession] = []
        self._unassigned = 0  # episodes without a session
        self._since_end = 0
        self._queue: list[_Request] = []

    def assign(self, sessions: list[LearningSession]) -> None:
        """Assigns the episodes to sessions."""
        slots = sum(session.rows for session in sessions)
        # The turn depends on the epoch and not on a counter in this process, so that resumed runs do not differ.
        epoch = self._seed.spawn_key[0] if self._seed.spawn_key else 0
        first = -(epoch * self.episodes) % slots if self.episodes < slots else 0
        for session in sessions:
            places = np.arange(first, first + session.rows) % slots
            first += session.rows
            self._join(session, quotas(self.episodes, slots)[places])

    def assign_leftovers(self, sessions: Sequence[LearningSession]) -> None:
        """Assigns episodes of disconnected sessions to sessions that connected during the batch."""
        new = [session for session in sessions if session not in self._sessions]
        if not new or not self._unassigned or self.done.done():
            return
        quotas = _distribute(self._unassigned, np.zeros(sum(session.rows for session in new), np.int64))
        self._unassigned = 0
        for session in new:
            self._join(session, quotas[: session.rows])
            quotas = quotas[session.rows :]

    def remove(self, session: LearningSession) -> None:
        """Assigns the remaining episodes of a session to the others. Its finished episodes count."""
        if session not in self._sessions or self.done.done():
            return
        self.lost += session.slots.under_way
        left = session.slots.cancel()
        others = [other for other in self._sessions if other.is_open and other is not session]
        if not others:
            self._unassigned += left
            return
        quotas = _distribute(left, np.concatenate([other.slots.remaining for other in others]))
        for other in others:
            other.add_quota(quotas[: other.rows])
            quotas = quotas[other.rows :]

    def end(self, failure: Exception | None = None) -> None:
        """Ends the batch, whether it is complete, failed or cancelled."""
        if not self.done.done():
            if failure is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(failure)
        for session in self._sessions:
            if session.is_in(self):  # and not in the next batch
                session.slots.cancel()

    def episode_ended(self) -> None:
        """Counts a finished episode."""
        self.finished += 1
        self._since_end = 0
        if self.finished == self.episodes:
            self.end()

    def trajectory(self) -> Trajectory:
        """Returns the episodes, in the order of the environments that played them."""
        return Trajectory.join([part for session in self._sessions if (part := session.cut(self)) is not None])

    async def act(
        self, observation: NDArray[Any], drawn: NDArray[np.float32], state: NDArray[np.float32] | None
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float32] | None]:
        """Chooses actions. Requests from the same turn of the event loop form one batch.

        Raises:
            EnvironmentStepError: No episode has ended for too long.
        """
        self.steps += len(drawn)
        self._since_end += 1
        if self._since_end > self._endless_steps * max(1, len(self._sessions)):
            self.end(
                EnvironmentStepError(
                    f"no episode of any simulator ended within {self._endless_steps:,} steps of each (endless_steps); "
                    "training needs whole episodes: have the simulator send truncated"
                )
            )
        loop = asyncio.get_running_loop()
        request = _Request(observation, drawn, state, loop.create_future())
        self._queue.append(request)
        if len(self._queue) == 1:
            loop.call_soon(self._run_queue)
        try:
            choice: tuple[NDArray[Any], NDArray[Any], NDArray[np.float32] | None] = await request.choice
        except Exception as error:  # of any kind: the run must fail, or it would wait forever
            self.end(error)
            raise
        return choice

    def _join(self, session: LearningSession, quota: NDArray[np.int64]) -> None:
        # The first session uses the same noise as a run in one process.
        index = len(self._sessions)
        spawn_key = (*self._seed.spawn_key, index) if index else self._seed.spawn_key
        self._sessions.append(session)
        session.play(self, quota, np.random.SeedSequence(self._seed.entropy, spawn_key=spawn_key))

    def _run_queue(self) -> None:
        requests, self._queue = self._queue, []
        if self._in_thread:
            loop = asyncio.get_running_loop()
            loop.run_in_executor(None, self._run_actor, requests).add_done_callback(
                lambda result: _resolve(requests, result.result())
            )
        else:
            _resolve(requests, self._run_actor(requests))

    def _run_actor(self, requests: list[_Request]) -> Any:
        try:
            if len(requests) == 1:
                first = requests[0]
                return [self.actor.act(first.observation, first.noise, first.state)]
            return _act_batched(self.actor, requests)
        except Exception as error:
            return error


class _Request:
    def __init__(
        self,
        observation: NDArray[Any],
        drawn: NDArray[np.float32],
        state: NDArray[np.float32] | None,
        choice: asyncio.Future[Any],
    ) -> None:
        self.observation, self.noise, self.state, self.choice = observation, drawn, state, choice


def _act_batched(actor: Actor, requests: list[_Request]) -> list[Any]:
    """Runs all requests in one batch, padded to a power of two because the actor keeps buffers for each batch size."""
    observation = np.concatenate([request.observation for request in requests])
    drawn = np.concatenate([request.noise for request in requests])
    states = [request.state for request in requests if request.state is not None]
    state = np.concatenate(states) if states else None
    rows = len(drawn)
    spare = (1 << (rows - 1).bit_length()) - rows
    samples, actions, after = actor.act(
        _pad(observation, spare), _pad(drawn, spare), None if state is None else _pad(state, spare)
    )
    choices, first = [], 0
    for request in requests:
        part = slice(first, first + len(request.noise))
        first = part.stop
        choices.append((samples[part], actions[part], None if after is None else after[part]))
    return choices


def _pad(array: NDArray[Any], spare: int) -> NDArray[Any]:
    # Repeats a row, because a mask of zeros would allow no action.
    return np.concatenate([array, np.repeat(array[:1], spare, axis=0)]) if spare else array


def _resolve(requests: list[_Request], result: Any) -> None:
    for i, request in enumerate(requests):
        if request.choice.done():  # cancelled, because the simulator disconnected
            continue
        if isinstance(result, Exception):
            request.choice.set_exception(result)
        else:
            request.choice.set_result(result[i])


def _distribute(episodes: int, quotas: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns what to add to the quotas. Each episode goes to the environment with the fewest left to play."""
    more = np.zeros_like(quotas)
    for _ in range(episodes):
        more[int(np.argmin(quotas + more))] += 1
    return more
