"""A simulator's session with a policy in training. Independent of the transport."""

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
    from pgkeras.simulators.hub import Hub, SessionCodec

__all__ = ["LearningSession"]

_WAITING_SECONDS = 2.0  # between messages that tell a simulator to keep waiting
_RATE_SECONDS = 1.0
_MAX_NAME_LENGTH = 100


class LearningSession:
    """A session whose episodes the policy learns from; see :class:`EpisodeSlots` for the states of its environments.

    Args:
        hub: The hub that holds the session.
        simulator: The simulator's declaration; None for a client that sends none, and does not support hold and
            waiting messages.
        write: Sends the client a message in addition to the responses.
    """

    def __init__(self, hub: Hub, simulator: service_pb2.Simulator | None, write: Write) -> None:
        self.name = "" if simulator is None else simulator.name[:_MAX_NAME_LENGTH]
        self._declared_rows = 0 if simulator is None else simulator.environments
        self.rows = 0
        """Number of environments; 0 before the first message has been read."""
        self.slots = EpisodeSlots(0)
        self.is_open = True
        self._hub = hub
        self._supports_waiting = simulator is not None
        self._write = write
        self._batch: Batch | None = None
        self._noise: Iterator[NDArray[np.float32]] = iter(())
        self._tape: Tape | None = None
        self._t = 0  # the next step of the tape
        self._finished: list[tuple[int, int, int]] = []  # slot, first and last step of the episodes that count
        self._episodes: Episodes | None = None
        self._state: NDArray[np.float32] | None = None
        self._step_count = self._episode_count = 0
        self._rate, self._rate_start = 0.0, (time.monotonic(), 0)  # the latter: time and step count
        self._changed = asyncio.Event()

    @property
    def version(self) -> tuple[str, int]:
        """The policy's name, and the index of the batch."""
        return self._hub.name, self._hub.batches

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Registers the session with the hub while it is open."""
        self._hub.add_session(self)
        try:
            yield
        finally:
            self.is_open = False
            self._hub.remove_session(self)

    def play(self, batch: Batch, quota: NDArray[np.int64], seed: np.random.SeedSequence) -> None:
        """Starts to play episodes of a batch."""
        codec = self._hub.codec
        assert codec is not None
        if self._tape is None:
            self._tape = Tape(self.rows, codec.spec.layout)
        self._tape.clear()
        self._batch, self._noise = batch, noise.steps(noise.of_batch(seed), codec.spec, self.rows)
        self._t, self._finished = 0, []
        self.slots.remaining = quota.astype(np.int64)
        self.wake()

    def add_quota(self, more: NDArray[np.int64]) -> None:
        """Adds episodes of the current batch."""
        self.slots.remaining += more
        self.wake()

    def is_in(self, batch: Batch) -> bool:
        """Returns whether the batch is the current one, or the last one if none is being played."""
        return batch is self._batch

    def status(self) -> SimulatorStatus:
        """Returns the session's status. The rate is updated at most once per second."""
        now = time.monotonic()
        since, steps = self._rate_start
        if now - since >= _RATE_SECONDS:
            self._rate, self._rate_start = (self._step_count - steps) / (now - since), (now, self._step_count)
        return SimulatorStatus(self.name, self.rows or self._declared_rows, self._rate, self._episode_count)

    def wake(self) -> None:
        """Makes a waiting message check its condition again."""
        self._changed.set()

    def cut(self, batch: Batch) -> Trajectory | None:
        """Returns the finished episodes of a batch; None if there are none."""
        if not self.is_in(batch) or not self._finished or self._tape is None:
            return None
        slot, start, end = np.array(sorted(self._finished), np.int64).T
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
        await self._wait_until(lambda: self._hub.codec is not None, message)
        codec = self._hub.codec
        assert codec is not None
        step = codec.steps.decode(message, self.rows or None)
        if step.query.greedy or step.query.outputs - {service_pb2.ACT_OUTPUT_ACTION}:
            field, got = ("mode", "greedy") if step.query.greedy else ("outputs", "others")
            expected = "sampled actions and nothing else, because the policy is in training"
            raise InvalidRequestError(field, expected, got)
        transition = transition_of(step, self._episodes)
        observation = step.query.inputs["observation"]
        if self._record_fast(step, transition):
            actions = await self._act(codec, observation)
            return response(step.message_id, codec.encode(step.query, actions)), 0
        if self._episodes is None:
            self._start(len(observation))
        assert self._episodes is not None
        self._record(step, transition, observation)
        await self._wait_until(self._has_response, message)
        if (self.slots.plays() | self.slots.catches_up(self._episodes.over)).any():
            self.slots.begin(self._t)
            actions = await self._act(codec, observation)
        else:  # every environment is at the end of an episode or held, and ignores the action
            actions = codec.any_action(self.rows)
        holds = self.slots.first & ~self.slots.plays()
        act = codec.encode(step.query, actions)
        encoded = response(step.message_id, act)
        if holds.any() and self._supports_waiting:
            encoded += service_pb2.PlayResponse(hold=encode_tensor(holds)).SerializeToString()
        return encoded, 0

    def _start(self, rows: int) -> None:
        if self._declared_rows not in (0, rows):
            expected = f"{self._declared_rows} observations, one for each of simulator.environments"
            raise InvalidRequestError("observation", expected, str(rows))
        self.rows = rows
        self._episodes = Episodes(rows, self._hub.record)
        self.slots = EpisodeSlots(rows)
        self._hub.start_session(self)

    def _record_fast(self, step: Step, transition: Transition | None) -> bool:
        """Records the rewards and returns True if all environments are in the middle of episodes that count."""
        starts = step.episode_start is not None and step.episode_start.any()
        if transition is None or transition.ended is not None or starts or not self.slots.all_play:
            return False
        assert self._episodes is not None
        assert self._tape is not None
        self._tape.rewards[self._t - 1] = transition.reward
        self._episodes.advance(transition, None)
        return True

    def _record(self, step: Step, transition: Transition | None, observation: NDArray[Any]) -> None:
        """Records the results of the last actions."""
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
                    # If the message has the next episode's first observation, the final observation is unknown.
                    final = tape.observations[t, slot] if first[slot] else observation[slot]
                    tape.final_observations[t, slot] = np.array(final)
                    self._finished.append((slot, begun, t))
            self._episode_count += len(finished)
            batch.lost += broken
            for _ in finished:
                batch.episode_ended()
        episodes.advance(transition, step.episode_start)

    def _has_response(self) -> bool:
        """Returns whether to respond now. Delayed responses are the back-pressure on simulators."""
        assert self._episodes is not None
        over = self._episodes.over
        return bool((self.slots.plays() | over | self.slots.catches_up(over)).any())

    async def _wait_until(self, condition: Callable[[], bool], message: bytes) -> None:
        """Waits for a condition, which is checked after every :meth:`wake`.

        Raises:
            ServerUnavailableError: The run is over.
        """
        due = time.monotonic() + _WAITING_SECONDS
        while not condition():
            if self._hub.stopped:
                raise ServerUnavailableError("the run is over; connect again when a run or a server is listening")
            if time.monotonic() >= due:  # independent of how often the condition is checked
                due = time.monotonic() + _WAITING_SECONDS
                if self._supports_waiting:
                    await self._write(self._hub.waiting_response(message))
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), due - time.monotonic())

    async def _act(self, codec: SessionCodec, observation: NDArray[Any]) -> NDArray[Any]:
        batch, tape = self._batch, self._tape
        assert batch is not None
        assert tape is not None
        if self._t == tape.size:
            tape.grow()
        t = self._t
        self._t += 1
        self._step_count += self.rows
        tape.observations[t] = observation
        state = None
        if size := codec.spec.state_size:
            state = start_over(or_zeros(self._state, self.rows, size), self.slots.first)
        samples, actions, self._state = await batch.act(observation, next(self._noise), state)
        tape.put_samples(t, samples)
        return actions
