"""One simulator's session with a policy in training, message by message. Knows no transport."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pgkeras_serving.messages.steps import Step, Transition
from pgkeras_serving.sessions.episodes import Episodes
from pgkeras_serving.sessions.play import refusal, response, transition_of
from pgkeras_serving.sessions.policies import Write
from pgkeras_serving.telemetry.run import SimulatorStatus

from pgkeras.engines import noise
from pgkeras.engines.state import or_zeros, start_over
from pgkeras.environments.trajectory import Tape, Trajectory
from pgkeras.errors import EnvironmentStepError, InvalidRequestError, ServerUnavailableError
from pgkeras.protocol.wire import encode_tensor
from pgkeras.simulators.batch import Batch
from pgkeras.simulators.slots import EpisodeSlots
from pgkeras.v1 import service_pb2

if TYPE_CHECKING:
    from pgkeras.simulators.hub import Hub, Learning

__all__ = ["LearningSession"]

# How often a simulator that waits is told so.
_WAITING_SECONDS = 2.0
_RATE_SECONDS = 1.0
_LONGEST_NAME = 100


class LearningSession:
    """A session whose episodes the policy learns from; see :class:`EpisodeSlots` for what its environments do.

    Args:
        hub: All sessions.
        simulator: How it has declared itself; None if it has not, and does not know messages that ask it to wait.
        write: Sends it a message besides the answers.
    """

    def __init__(self, hub: Hub, simulator: service_pb2.Simulator | None, write: Write) -> None:
        self.name = "" if simulator is None else simulator.name[:_LONGEST_NAME]
        self._declared_rows = 0 if simulator is None else simulator.environments
        self.rows = 0
        """Environments; 0 before the first message has been read."""
        self.slots = EpisodeSlots(0)
        self.is_open = True
        self._hub = hub
        self._waits = simulator is not None
        self._write = write
        self._batch: Batch | None = None
        self._noise: Iterator[NDArray[np.float32]] = iter(())
        self._tape: Tape | None = None
        self._t = 0  # the next step of the tape
        self._found: list[tuple[int, int, int]] = []  # slot, first and last step of the episodes that count
        self._episodes: Episodes | None = None
        self._state: NDArray[np.float32] | None = None
        self._acted = self._ended = 0  # steps and episodes so far
        self._rate, self._seen = 0.0, (time.monotonic(), 0)
        self._changed = asyncio.Event()

    @property
    def version(self) -> tuple[str, int]:
        """The policy's name, and the number of the batch."""
        return self._hub.name, self._hub.batches

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Has the hub know of the session."""
        self._hub.come(self)
        try:
            yield
        finally:
            self.is_open = False
            self._hub.go(self)

    def play(self, batch: Batch, quota: NDArray[np.int64], seed: np.random.SeedSequence) -> None:
        """Has its environments play some episodes of a batch."""
        learning = self._hub.learning
        assert learning is not None
        if self._tape is None:
            self._tape = Tape(self.rows, learning.spec.layout)
        self._tape.clear()
        self._batch, self._noise = batch, noise.steps(noise.of_batch(seed), learning.spec, self.rows)
        self._t, self._found = 0, []
        self.slots.remaining = quota.astype(np.int64)
        self.wake()

    def take_on(self, more: NDArray[np.int64]) -> None:
        """Has its environments play more episodes of the batch that it plays."""
        self.slots.remaining += more
        self.wake()

    def plays(self, batch: Batch) -> bool:
        """Whether it is this batch that it plays, or has played last."""
        return batch is self._batch

    def status(self) -> SimulatorStatus:
        """What there is to tell of it; its speed is that since it was last asked, if that was a moment ago."""
        now = time.monotonic()
        since, steps = self._seen
        if now - since >= _RATE_SECONDS:
            self._rate, self._seen = (self._acted - steps) / (now - since), (now, self._acted)
        return SimulatorStatus(self.name, self.rows or self._declared_rows, self._rate, self._ended)

    def wake(self) -> None:
        """Has what waits look again."""
        self._changed.set()

    def cut(self, batch: Batch) -> Trajectory | None:
        """The episodes that it has finished of a batch; None if there are none."""
        if not self.plays(batch) or not self._found or self._tape is None:
            return None
        slot, start, end = np.array(sorted(self._found), np.int64).T
        return self._tape.cut_out(slot, start, end)

    async def answer(self, message: bytes) -> tuple[bytes, int]:
        """See :meth:`pgkeras_serving.sessions.policies.Session.answer`."""
        try:
            return await self._answer(message)
        except EnvironmentStepError as error:
            if self._batch is not None:
                self._batch.end(error)
            return refusal(message, ServerUnavailableError(f"the run has ended: {error}"))
        except Exception as error:
            return refusal(message, error, "the run's log")

    async def _answer(self, message: bytes) -> tuple[bytes, int]:
        await self._until(lambda: self._hub.learning is not None, message)
        learning = self._hub.learning
        assert learning is not None
        step = learning.steps.decode(message, self.rows or None)
        if step.query.greedy or step.query.outputs - {service_pb2.ACT_OUTPUT_ACTION}:
            field, got = ("mode", "greedy") if step.query.greedy else ("outputs", "others")
            expected = "sampled actions and nothing else, since the policy is in training"
            raise InvalidRequestError(field, expected, got)
        transition = transition_of(step, self._episodes)
        observation = step.query.inputs["observation"]
        if self._goes_on(step, transition):
            actions = await self._act(learning, observation)
            return response(step.message_id, learning.encode(step.query, actions)), 0
        if self._episodes is None:
            self._sit_down(len(observation))
        assert self._episodes is not None
        self._note(step, transition, observation)
        await self._until(self._is_answered, message)
        if (self.slots.plays() | self.slots.catches_up(self._episodes.over)).any():
            self.slots.begin(self._t)
            actions = await self._act(learning, observation)
        else:  # at the ends of episodes: nobody takes them
            actions = learning.any_action(self.rows)
        holds = self.slots.first & ~self.slots.plays()
        act = learning.encode(step.query, actions)
        answer = response(step.message_id, act)
        if holds.any() and self._waits:
            answer += service_pb2.PlayResponse(hold=encode_tensor(holds)).SerializeToString()
        return answer, 0

    def _sit_down(self, rows: int) -> None:
        if self._declared_rows not in (0, rows):
            expected = f"{self._declared_rows} observations, one for each environment that simulator.environments says"
            raise InvalidRequestError("observation", expected, str(rows))
        self.rows = rows
        self._episodes = Episodes(rows, self._hub.record)
        self.slots = EpisodeSlots(rows)
        self._hub.sit_down(self)

    def _goes_on(self, step: Step, transition: Transition | None) -> bool:
        """Takes down what the last actions led to, if all environments are amidst episodes that count: a short way."""
        starts = step.episode_start is not None and step.episode_start.any()
        if transition is None or transition.ended is not None or starts or not self.slots.all_play:
            return False
        assert self._episodes is not None
        assert self._tape is not None
        self._tape.rewards[self._t - 1] = transition.reward
        self._episodes.advance(transition, None)
        return True

    def _note(self, step: Step, transition: Transition | None, observation: NDArray[Any]) -> None:
        """Takes down what the last actions led to."""
        episodes, tape, batch, t = self._episodes, self._tape, self._batch, self._t - 1
        assert episodes is not None
        first = episodes.over if step.episode_start is None else step.episode_start
        is_played, ended = self.slots.under_way > 0, np.zeros(self.rows, np.bool_)
        if transition is not None and transition.ended is not None:
            ended = transition.ended
        finished, broken = self.slots.advance(ended, first)
        if is_played:
            assert tape is not None
            assert batch is not None
            if transition is not None:
                tape.rewards[t] = transition.reward
                for slot, begun in finished:
                    tape.terminated[t, slot] = transition.terminated[slot]
                    # One that shows the next episode's first observation has kept this one's last to itself.
                    final = tape.observations[t, slot] if first[slot] else observation[slot]
                    tape.final_observations[t, slot] = np.array(final)
                    self._found.append((slot, begun, t))
            self._ended += len(finished)
            batch.lost += broken
            for _ in finished:
                batch.episode_ended()
        episodes.advance(transition, step.episode_start)

    def _is_answered(self) -> bool:
        """Whether there is anything to answer: back-pressure is silence."""
        assert self._episodes is not None
        over = self._episodes.over
        return bool((self.slots.plays() | over | self.slots.catches_up(over)).any())

    async def _until(self, condition: Callable[[], bool], message: bytes) -> None:
        """Waits for a condition, which is looked at when something has changed.

        Raises:
            ServerUnavailableError: The run is over.
        """
        due = time.monotonic() + _WAITING_SECONDS
        while not condition():
            if self._hub.stopped:
                raise ServerUnavailableError("the run is over; connect again when there is another one, or a server")
            if time.monotonic() >= due:  # however often it has looked in vain
                due = time.monotonic() + _WAITING_SECONDS
                if self._waits:
                    await self._write(self._hub.waiting(message))
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), due - time.monotonic())

    async def _act(self, learning: Learning, observation: NDArray[Any]) -> NDArray[Any]:
        batch, tape = self._batch, self._tape
        assert batch is not None
        assert tape is not None
        if self._t == tape.size:
            tape.grow()
        t = self._t
        self._t += 1
        self._acted += self.rows
        tape.observations[t] = observation
        state = None
        if size := learning.spec.state_size:
            state = start_over(or_zeros(self._state, self.rows, size), self.slots.first)
        samples, actions, self._state = await batch.act(observation, next(self._noise), state)
        tape.put_samples(t, samples)
        return actions
