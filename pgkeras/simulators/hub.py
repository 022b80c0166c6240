"""The hub: all sessions of simulators with a policy in training, and the batches of episodes that they play."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from pgkeras_serving.messages.act import PolicyCodec
from pgkeras_serving.messages.parsing import parse
from pgkeras_serving.messages.responses import Query
from pgkeras_serving.messages.steps import Steps
from pgkeras_serving.policies.contents import LoadedPolicy
from pgkeras_serving.policies.limits import limits
from pgkeras_serving.sessions.policies import Write
from pgkeras_serving.settings.config import ServerConfig
from pgkeras_serving.telemetry.run import RunStatus, SimulatorStatus

from pgkeras.environments.collect import Actor
from pgkeras.environments.trajectory import Trajectory
from pgkeras.errors import InvalidRequestError, PolicyNotFoundError, ServerUnavailableError
from pgkeras.protocol.wire import encode_spec, spec_hash
from pgkeras.simulators.batch import Batch
from pgkeras.simulators.declaration import Declaration
from pgkeras.simulators.session import LearningSession
from pgkeras.spaces import Box
from pgkeras.spaces.spec import PolicySpec
from pgkeras.v1 import policy_pb2, service_pb2

__all__ = ["Hub", "Learning"]

logger = logging.getLogger(__name__)

_SETTLE_SECONDS = 0.3
_MOST_RETURNS = 400


class Learning:
    """What reads sessions' messages and writes their answers, once the policy is there.

    Args:
        spec: The policy's.
        name: Its name.
        max_batch_size: Most environments of a session.
    """

    def __init__(self, spec: PolicySpec, name: str, max_batch_size: int) -> None:
        self.spec = spec
        self.version = policy_pb2.PolicyVersion(name=name, version=1, spec_hash=spec_hash(spec))
        codec = PolicyCodec(spec, self.version, max_batch_size)
        self.steps = Steps(codec)
        self._answers = codec.answers

    def encode(self, query: Query, actions: NDArray[Any]) -> bytes:
        """The bytes of an ``ActResponse`` with actions."""
        return self._answers.encode(query, {"action": actions})

    def any_action(self, rows: int) -> NDArray[Any]:
        """Actions for environments that take none, ``[rows, ...]``."""
        columns = []
        for part in self.spec.parts:
            space = part.space
            action: Any = np.clip(0.0, space.low, space.high) if isinstance(space, Box) else getattr(space, "start", 0)
            columns.append(np.broadcast_to(action, (rows, *space.shape)).astype(space.dtype))
        return self.spec.packed(columns)


class Hub:
    """Sessions that come and go, and what they play. All of it happens on one event loop.

    In the server it stands in the policies' place; see :class:`pgkeras_serving.sessions.policies.Policies`.

    Args:
        name: The policy's name.
        config: The server's settings.
        declaration: The spaces, if they are known before a simulator declares them.
    """

    def __init__(self, name: str, config: ServerConfig, declaration: Declaration | None = None) -> None:
        self.name = name
        self.declaration = declaration
        self.learning: Learning | None = None
        self.batches = 0
        """Batches of episodes that have been begun."""
        self.episodes_lost = 0
        """Episodes that broke off, of all batches."""
        self._config = config
        self.stopped = False
        """Whether the run is over."""
        self._curve: deque[float] = deque(maxlen=_MOST_RETURNS)
        self._progress = 0, 0, math.nan
        self._sessions: list[LearningSession] = []
        self._batch: Batch | None = None
        self._changed = asyncio.Event()
        self._reason = "the policy is being built"

    # What a run does.

    async def declared(self) -> Declaration:
        """Waits for the first simulator to declare its spaces."""
        while self.declaration is None:
            await self._next_change()
        return self.declaration

    def learn(self, spec: PolicySpec) -> None:
        """Has sessions be answered: the policy is there."""
        self.learning = Learning(spec, self.name, self._config.max_batch_size)
        self._reason = "the policy is being improved, or others play"
        for session in self._sessions:
            session.wake()

    async def play(
        self, actor: Actor, episodes: int, seed: np.random.SeedSequence, in_thread: bool, endless_steps: int
    ) -> tuple[Trajectory, Batch]:
        """Has simulators play episodes, and waits for some if there are none.

        Raises:
            EnvironmentStepError: No episode ended for too long.
        """
        self._batch = batch = Batch(actor, episodes, seed, in_thread, endless_steps)
        self.batches += 1
        try:
            while not self.seated:
                await self._next_change()
                await asyncio.sleep(_SETTLE_SECONDS)  # they come together, as a rule
            batch.begin(self.seated)
            await batch.done
            return batch.trajectory(), batch
        finally:
            batch.end()
            self.episodes_lost += batch.lost
            if self._batch is batch:
                self._batch = None

    @property
    def seated(self) -> list[LearningSession]:
        """The sessions that have shown an observation, in the order in which they came."""
        return [session for session in self._sessions if session.rows]

    @property
    def progress(self) -> tuple[int, int]:
        """Steps and finished episodes of the batch that is played."""
        return (0, 0) if self._batch is None else (self._batch.steps, self._batch.finished)

    def simulators(self) -> list[SimulatorStatus]:
        """Who is connected."""
        return [session.status() for session in self._sessions]

    def note(self, epoch: int, env_steps: int, mean_return: float, entropy: float) -> None:
        """Takes note of an epoch, for those who look on."""
        self._curve.append(mean_return)
        self._progress = epoch, env_steps, entropy

    # What sessions tell.

    def come(self, session: LearningSession) -> None:
        """A session has been opened."""
        self._sessions.append(session)

    def sit_down(self, session: LearningSession) -> None:
        """A session has shown its first observations."""
        if self._batch is not None:
            self._batch.take_in([session])
        noun = "environment" if session.rows == 1 else "environments"
        logger.info("simulator %s has come, with %d %s", session.name or "without a name", session.rows, noun)
        self._change()

    def go(self, session: LearningSession) -> None:
        """A session has ended."""
        self._sessions.remove(session)
        if self._batch is not None and session.rows:
            self._batch.leave(session)
            self._batch.take_in(self.seated)  # who may have come before, and found nothing left over
        if session.rows:
            logger.info("simulator %s has gone", session.name or "without a name")

    def record(self, episode_return: float, length: int) -> None:
        """An episode has ended, whether it counts or not."""

    def stop(self) -> None:
        """Has sessions that wait be told that the run is over."""
        self.stopped = True
        self._change()
        for session in self._sessions:
            session.wake()

    def waiting(self, message: bytes) -> bytes:
        """The bytes of a ``PlayResponse`` that asks for patience."""
        message_id = parse(service_pb2.PlayRequest, message).id
        waiting = service_pb2.PlayWaiting(reason=self._reason)
        return service_pb2.PlayResponse(id=message_id, waiting=waiting).SerializeToString()

    # What the server asks of policies.

    is_ready = True

    def load(self) -> None:
        """Nothing: what there is comes from simulators."""

    def refresh(self) -> None:
        """Likewise."""

    def close(self) -> None:
        """Likewise."""

    def policies(self) -> list[LoadedPolicy]:
        """None that could be called without a session."""
        return []

    def labels(self) -> dict[str, dict[str, int]]:
        """None."""
        return {}

    def failures(self) -> list[str]:
        """None."""
        return []

    def run(self) -> RunStatus:
        """See :meth:`pgkeras_serving.sessions.policies.Policies.run`."""
        epoch, env_steps, entropy = self._progress
        declared = self.declaration
        spaces = "" if declared is None else f"{declared.observation_space} \u2192 {declared.action_space}"
        lost = self.episodes_lost + (0 if self._batch is None else self._batch.lost)
        return RunStatus(
            self.name, spaces, epoch, env_steps, list(self._curve), entropy, lost, simulators=self.simulators()
        )

    def decode(self, message: bytes) -> NoReturn:
        """Refuses Act.

        Raises:
            ServerUnavailableError: Always.
        """
        raise ServerUnavailableError(
            f"{self.name} is in training: open a session (Play). To call a trained policy, ask a server: pgkeras serve"
        )

    def describe(self, ref: policy_pb2.PolicyRef) -> service_pb2.GetPolicyResponse:
        """Describes the policy in training.

        Raises:
            PolicyNotFoundError: It has another name.
            ServerUnavailableError: No simulator has declared its spaces yet.
        """
        self._check_name(ref)
        if self.learning is None:
            raise ServerUnavailableError(
                "no simulator has declared its spaces yet: declare them in the session's first message, or start the "
                "run with --spaces"
            )
        learning = self.learning
        policy = policy_pb2.Policy(
            name=self.name,
            version=learning.version.version,
            spec=encode_spec(learning.spec),
            spec_hash=learning.version.spec_hash,
        )
        return service_pb2.GetPolicyResponse(policy=policy, limits=limits(self._config))

    def description(self, policy: LoadedPolicy) -> policy_pb2.Policy:
        """Of none."""
        return policy.description

    def open_session(self, request: service_pb2.PlayRequest, write: Write) -> LearningSession:
        """See :meth:`pgkeras_serving.sessions.policies.Policies.open_session`.

        Raises:
            InvalidRequestError: The simulator has declared nothing, or other spaces than those before it.
            PolicyNotFoundError: It asks for another policy.
        """
        self._check_name(request.policy)
        declares = request.HasField("simulator")
        if declares:
            declaration = Declaration.of(request)
            if self.declaration is None:
                self.declaration = declaration
                self._change()
            self.declaration.check(declaration)
        elif self.declaration is None:
            raise InvalidRequestError("simulator", "the simulator's spaces, which nobody has declared yet", "nothing")
        return LearningSession(self, request.simulator if declares else None, write)

    def _check_name(self, ref: policy_pb2.PolicyRef) -> None:
        if ref.name not in ("", self.name):
            raise PolicyNotFoundError(f"no policy {ref.name!r}; the one in training here is {self.name!r}")

    def _change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _next_change(self) -> None:
        await self._changed.wait()
