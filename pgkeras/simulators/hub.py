"""The hub: the sessions of a policy in training, and the batches of episodes that they play."""

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

__all__ = ["Hub", "SessionCodec"]

logger = logging.getLogger(__name__)

_SETTLE_SECONDS = 0.3
_CURVE_LENGTH = 400


class SessionCodec:
    """Decodes session messages and encodes responses, for a policy whose spec is known.

    Args:
        spec: The policy's spec.
        name: The policy's name.
        max_batch_size: Maximum number of environments per session.
    """

    def __init__(self, spec: PolicySpec, name: str, max_batch_size: int) -> None:
        self.spec = spec
        self.version = policy_pb2.PolicyVersion(name=name, version=1, spec_hash=spec_hash(spec))
        codec = PolicyCodec(spec, self.version, max_batch_size)
        self.steps = Steps(codec)
        self._answers = codec.answers

    def encode(self, query: Query, actions: NDArray[Any]) -> bytes:
        """Returns the bytes of an ``ActResponse`` with actions."""
        return self._answers.encode(query, {"action": actions})

    def any_action(self, rows: int) -> NDArray[Any]:
        """Returns placeholder actions for environments that ignore them, ``[rows, ...]``."""
        columns = []
        for part in self.spec.parts:
            space = part.space
            action: Any = np.clip(0.0, space.low, space.high) if isinstance(space, Box) else getattr(space, "start", 0)
            columns.append(np.broadcast_to(action, (rows, *space.shape)).astype(space.dtype))
        return self.spec.packed(columns)


class Hub:
    """Holds the open sessions, and plays batches of episodes with them. All methods run on one event loop.

    Implements the server's interface :class:`pgkeras_serving.sessions.policies.Policies`.

    Args:
        name: The policy's name.
        config: The server's settings.
        declaration: The spaces, if they are known before a simulator declares them.
    """

    def __init__(self, name: str, config: ServerConfig, declaration: Declaration | None = None) -> None:
        self.name = name
        self.declaration = declaration
        self.codec: SessionCodec | None = None
        """None until the policy is built."""
        self.batches = 0
        """Number of batches so far, including the current one."""
        self.episodes_lost = 0
        """Number of interrupted episodes of all finished batches."""
        self._config = config
        self.stopped = False
        """Whether the run is over."""
        self._curve: deque[float] = deque(maxlen=_CURVE_LENGTH)
        self._progress = 0, 0, math.nan
        self._sessions: list[LearningSession] = []
        self._batch: Batch | None = None
        self._changed = asyncio.Event()
        self._waiting_reason = "the policy is being built"

    # Called by the run.

    async def wait_for_declaration(self) -> Declaration:
        """Waits for the first simulator to declare its spaces."""
        while self.declaration is None:
            await self._wait_for_change()
        return self.declaration

    def set_policy(self, spec: PolicySpec) -> None:
        """Starts to respond to sessions, because the policy is built."""
        self.codec = SessionCodec(spec, self.name, self._config.max_batch_size)
        self._waiting_reason = "the policy is being improved, or others play"
        for session in self._sessions:
            session.wake()

    async def play(
        self, actor: Actor, episodes: int, seed: np.random.SeedSequence, in_thread: bool, endless_steps: int
    ) -> tuple[Trajectory, Batch]:
        """Plays a batch of episodes. Waits for a simulator if none is connected.

        Raises:
            EnvironmentStepError: No episode ended for too long.
        """
        self._batch = batch = Batch(actor, episodes, seed, in_thread, endless_steps)
        self.batches += 1
        try:
            while not self.ready_sessions:
                await self._wait_for_change()
                await asyncio.sleep(_SETTLE_SECONDS)  # simulators usually connect together
            batch.assign(self.ready_sessions)
            await batch.done
            return batch.trajectory(), batch
        finally:
            batch.end()
            self.episodes_lost += batch.lost
            if self._batch is batch:
                self._batch = None

    @property
    def ready_sessions(self) -> list[LearningSession]:
        """The sessions that have sent an observation, in the order in which they connected."""
        return [session for session in self._sessions if session.rows]

    @property
    def progress(self) -> tuple[int, int]:
        """Steps and finished episodes of the current batch."""
        return (0, 0) if self._batch is None else (self._batch.steps, self._batch.finished)

    def simulators(self) -> list[SimulatorStatus]:
        """Returns the status of every connected simulator."""
        return [session.status() for session in self._sessions]

    def note(self, epoch: int, env_steps: int, mean_return: float, entropy: float) -> None:
        """Records the results of an epoch for the status page."""
        self._curve.append(mean_return)
        self._progress = epoch, env_steps, entropy

    # Called by sessions.

    def add_session(self, session: LearningSession) -> None:
        """Adds an open session."""
        self._sessions.append(session)

    def start_session(self, session: LearningSession) -> None:
        """Lets a session play, after its first observations have arrived."""
        if self._batch is not None:
            self._batch.assign_leftovers([session])
        noun = "environment" if session.rows == 1 else "environments"
        logger.info("simulator %s connected with %d %s", session.name or "(unnamed)", session.rows, noun)
        self._notify()

    def remove_session(self, session: LearningSession) -> None:
        """Removes a session that has ended."""
        self._sessions.remove(session)
        if self._batch is not None and session.rows:
            self._batch.remove(session)
            self._batch.assign_leftovers(self.ready_sessions)  # some may have connected before there were any
        if session.rows:
            logger.info("simulator %s disconnected", session.name or "(unnamed)")

    def record(self, episode_return: float, length: int) -> None:
        """Does nothing: batches count their own episodes."""

    def stop(self) -> None:
        """Tells waiting sessions that the run is over."""
        self.stopped = True
        self._notify()
        for session in self._sessions:
            session.wake()

    def waiting_response(self, message: bytes) -> bytes:
        """Returns the bytes of a ``PlayResponse`` that tells the simulator to keep waiting."""
        message_id = parse(service_pb2.PlayRequest, message).id
        waiting = service_pb2.PlayWaiting(reason=self._waiting_reason)
        return service_pb2.PlayResponse(id=message_id, waiting=waiting).SerializeToString()

    # The server's interface, Policies.

    is_ready = True

    def load(self) -> None:
        """Does nothing."""

    def refresh(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""

    def policies(self) -> list[LoadedPolicy]:
        """Returns an empty list: there are no policies for calls outside a session."""
        return []

    def labels(self) -> dict[str, dict[str, int]]:
        """Returns an empty dictionary."""
        return {}

    def failures(self) -> list[str]:
        """Returns an empty list."""
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
        """Rejects Act.

        Raises:
            ServerUnavailableError: Always.
        """
        raise ServerUnavailableError(
            f"{self.name} is in training: open a session (Play). To call a trained policy, use pgkeras serve"
        )

    def describe(self, ref: policy_pb2.PolicyRef) -> service_pb2.GetPolicyResponse:
        """Describes the policy in training.

        Raises:
            PolicyNotFoundError: The policy in training has another name.
            ServerUnavailableError: No simulator has declared its spaces yet.
        """
        self._check_name(ref)
        if self.codec is None:
            raise ServerUnavailableError(
                "no simulator has declared its spaces yet: declare them in the session's first message, or start the "
                "run with --spaces"
            )
        policy = policy_pb2.Policy(
            name=self.name,
            version=self.codec.version.version,
            spec=encode_spec(self.codec.spec),
            spec_hash=self.codec.version.spec_hash,
        )
        return service_pb2.GetPolicyResponse(policy=policy, limits=limits(self._config))

    def description(self, policy: LoadedPolicy) -> policy_pb2.Policy:
        """Returns the stored description. Not called, because there are no loaded policies."""
        return policy.description

    def open_session(self, request: service_pb2.PlayRequest, write: Write) -> LearningSession:
        """See :meth:`pgkeras_serving.sessions.policies.Policies.open_session`.

        Raises:
            InvalidRequestError: The simulator declares no spaces, or other spaces than the simulators before it.
            PolicyNotFoundError: The simulator requests another policy.
        """
        self._check_name(request.policy)
        declares = request.HasField("simulator")
        if declares:
            declaration = Declaration.of(request)
            if self.declaration is None:
                self.declaration = declaration
                self._notify()
            self.declaration.check(declaration)
        elif self.declaration is None:
            raise InvalidRequestError("simulator", "the spaces, which no simulator has declared yet", "nothing")
        return LearningSession(self, request.simulator if declares else None, write)

    def _check_name(self, ref: policy_pb2.PolicyRef) -> None:
        if ref.name not in ("", self.name):
            raise PolicyNotFoundError(f"no policy {ref.name!r}; the policy in training is {self.name!r}")

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _wait_for_change(self) -> None:
        await self._changed.wait()
