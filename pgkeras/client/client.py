"""PolicyClient: asks a policy server for actions. Light: NumPy, gRPC and nothing that trains."""

from __future__ import annotations

import datetime
import functools
import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, TypeVar

import grpc

from pgkeras.client.connection import Endpoint, Tls
from pgkeras.client.conversion import (
    Actions,
    Mode,
    Output,
    check_seed,
    mode_number,
    no_answer,
    output_numbers,
    read_actions,
    seconds_of,
    translate,
)
from pgkeras.client.declaration import declare
from pgkeras.client.session import PlaySession
from pgkeras.errors import DeadlineExceededError, InvalidRequestError, ServerUnavailableError, TlsError
from pgkeras.protocol.values import cast, cast_mask, is_single, write_value
from pgkeras.protocol.wire import as_actions, decode_space, decode_spec, decode_struct, write_tensor
from pgkeras.spaces import ActionSpace, Space
from pgkeras.spaces.spec import PolicySpec
from pgkeras.v1 import policy_pb2, service_pb2, service_pb2_grpc

__all__ = ["Actions", "EpisodesPlayed", "Limits", "Mode", "Output", "PolicyClient", "PolicyInfo", "Tls"]

# Seconds before a call is made again that ended with UNAVAILABLE: doubling, less a random part of up to a half.
_FIRST_BACKOFF = 0.1
_LONGEST_BACKOFF = 1.0

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


@dataclass(frozen=True)
class Limits:
    """The limits of a server.

    Args:
        max_batch_size: Most observations in one request.
        max_receive_message_bytes: Largest message that it receives.
        max_send_message_bytes: Largest message that it sends.
        max_queued: Most observations that may wait for the policy.
        max_queue_seconds: How long they may.
        max_sessions: Most sessions at once, of all clients together.
        session_idle_seconds: How long a session may move nothing.
        max_streams_per_connection: Most calls and sessions at once of one client.
        max_header_bytes: Largest metadata of a call.
        min_ping_seconds: Shortest interval of keepalive pings.
        max_connections: Most connections at once, of all clients together.
        keepalive_seconds: After how long a silence the server pings.
    """

    max_batch_size: int
    max_receive_message_bytes: int
    max_send_message_bytes: int
    max_queued: int
    max_queue_seconds: float
    max_sessions: int
    session_idle_seconds: float
    max_streams_per_connection: int
    max_header_bytes: int
    min_ping_seconds: float
    max_connections: int
    keepalive_seconds: float


@dataclass(frozen=True)
class EpisodesPlayed:
    """The episodes that have been played with a version, in sessions.

    Args:
        count: How many have ended since the server loaded this version.
        mean_return: Mean undiscounted return of the last 100; None when there are none.
        mean_length: Their mean length, in actions.
    """

    count: int
    mean_return: float | None
    mean_length: float | None


@dataclass(frozen=True)
class PolicyInfo:
    """A policy as a server offers it.

    Args:
        name: Its name.
        version: Its version.
        spec: What it consumes and produces.
        spec_hash: Identifies the spec.
        engine: What computes it.
        load_time: When it became ready.
        provenance: Where it comes from.
        labels: The labels on this version.
        episodes: The episodes played with it.
        limits: What the server accepts; None in a list of policies.
    """

    name: str
    version: int
    spec: PolicySpec
    spec_hash: str
    engine: str
    load_time: datetime.datetime
    provenance: dict[str, Any]
    labels: tuple[str, ...]
    episodes: EpisodesPlayed
    limits: Limits | None = None


class PolicyClient:
    """A connection to a policy server, and one policy on it. Safe for use by several threads.

    A call that the server cannot be reached for is made again, with back-off, as long as its timeout allows: a server
    that is restarted is waited for. Only a client that was never answered says so at once, since its address may be
    wrong.

    Example::

        with PolicyClient("127.0.0.1:50051") as client:
            action = client.act([0.0, 0.1, 0.0, -0.1]).action

    Args:
        target: HOST:PORT, or unix:PATH.
        policy: Which policy; may be empty when the server has only one.
        version: Which version; the newest when None.
        timeout: Seconds that any call may take, connecting included, unless it is given its own.
        label: The version that has this label, instead of ``version``.
        tls: Whether, or how, the connection is secured; True trusts the authorities that come with gRPC.
        token: What authenticates every call, for servers that demand it.

    Raises:
        InvalidRequestError: Both a version and a label are given.
        ConfigError: ``tls`` or ``token`` is of no use as it is.

    Every method raises:
        ServerUnavailableError: Nobody answers at the target, or the server is loading or draining.
        TlsError: The connection could not be secured.
        UnauthenticatedError: The server demands a token, or does not know this one.
        DeadlineExceededError: No answer came in time.
        PolicyNotFoundError: No such policy, version or label; the message lists what there is.
        PolicyServiceError: Any of its other children.
    """

    def __init__(
        self,
        target: str,
        policy: str = "",
        version: int | None = None,
        timeout: float = 10.0,
        *,
        label: str | None = None,
        tls: Tls | bool = False,
        token: str | None = None,
    ) -> None:
        if version is not None and label is not None:
            raise InvalidRequestError("policy", "a version or a label", f"version {version} and label {label!r}")
        self.target = target
        self._endpoint = Endpoint.of(target, tls, token)
        self.timeout = timeout
        self._ref = policy_pb2.PolicyRef(name=policy, version=version, label=label)
        self._info: PolicyInfo | None = None
        self._answered = False
        self._describing = threading.Lock()
        self._channel = self._endpoint.connect()
        self._stub = service_pb2_grpc.PolicyServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def act(
        self,
        observations: Any,
        mode: Mode = "sample",
        seed: int | None = None,
        *,
        outputs: Iterable[Output] = ("log_prob", "entropy", "distribution"),
        action_mask: Any = None,
        state: bytes = b"",
        timeout: float | None = None,
    ) -> Actions:
        """Asks for the action for one observation, or for each of a batch.

        Args:
            observations: Of the observation space's shape, or with a leading batch axis; a mapping or sequence of parts
                for a Dict or Tuple space, strings for a Text. Lists, and arrays of another dtype of the same kind
                (such as float64 for float32), are cast.
            mode: "sample" draws from the distribution, "greedy" takes its mode.
            seed: Makes the draw reproducible: an integer in [0, 2**64).
            outputs: What to answer besides the action.
            action_mask: Which actions are allowed, ``[mask_size]`` or ``[B, mask_size]`` of bools, or of zeros and
                ones; all when None.
            state: For a policy with memory, the ``state`` of the answer before; empty at the start of an episode.
            timeout: Seconds this call may take.

        Raises:
            InvalidRequestError: The observations, the mode, the seed or an output is wrong.
            SpecMismatchError: The server has meanwhile another version of the policy, with another spec.
            ServerBusyError: The server is full; ``retry_after`` says for how long.
        """
        due = self._due(timeout)
        info = self._info or self._describe_once(due)
        request = service_pb2.ActRequest(spec_hash=info.spec_hash, policy=self._ref)
        value = cast(observations, info.spec.observation_space)
        write_value(request.observation, value)
        if action_mask is not None:
            leading = 0 if is_single(value, info.spec.observation_space) else 1
            write_tensor(request.action_mask, cast_mask(action_mask, info.spec.action_space, leading))
        request.state = state
        request.mode = mode_number(mode)
        request.outputs.extend(output_numbers(outputs))
        if seed is not None:
            request.seed = check_seed(seed)
        return read_actions(self._call(self._stub.Act, request, due), info.spec.action_space)

    def play(
        self,
        mode: Mode = "sample",
        seed: int | None = None,
        *,
        outputs: Iterable[Output] = (),
        timeout: float | None = None,
        observation_space: Any = None,
        action_space: Any = None,
        environments: int = 0,
        name: str = "",
    ) -> PlaySession:
        """Opens a session for one simulator, of one or many environments; the version stays the same throughout it.

        A simulator that declares its spaces can also teach a policy, where ``pgkeras train --listen`` listens; a server
        of trained policies checks that they are the policy's.

        Example::

            with client.play(seed=1) as session:
                action = session.step(observation)
                while playing:
                    observation, reward, terminated, truncated, _ = environment.step(action)
                    action = session.step(observation, reward, terminated, truncated)

        Args:
            mode: "sample" draws from the distribution, "greedy" takes its mode.
            seed: Makes the whole session reproducible: an integer in [0, 2**64).
            outputs: What to answer besides the action; it is in the session's ``answer``.
            timeout: Seconds that a step may take; the client's own when None. A policy in training says every few
                seconds that it is there while it is being improved, and the time begins anew.
            observation_space: What the simulator shows: a space of :mod:`pgkeras.spaces` or of gymnasium.
            action_space: What it takes, likewise; the two belong together.
            environments: How many environments it steps side by side; 0 leaves it open.
            name: What people call the simulator.

        Raises:
            InvalidRequestError: The mode, the seed, an output or a space is wrong.
        """
        if (observation_space is None) != (action_space is None):
            raise InvalidRequestError("simulator", "both spaces, or none", "one of them")
        if observation_space is not None:
            simulator = declare(observation_space, action_space, environments, name)
            first = service_pb2.PlayRequest(policy=self._ref, mode=mode_number(mode), simulator=simulator)
            spaces = decode_space(simulator.observation_space), as_actions(decode_space(simulator.action_space))
            return self._session(first, spaces, seed, outputs, timeout)
        due = self._due(timeout)
        info = self._info or self._describe_once(due)
        self._get_policy(due)  # a session is not made again, so this is what waits for a server that restarts
        first = service_pb2.PlayRequest(policy=self._ref, spec_hash=info.spec_hash, mode=mode_number(mode))
        return self._session(first, (info.spec.observation_space, info.spec.action_space), seed, outputs, timeout)

    def _session(
        self,
        first: service_pb2.PlayRequest,
        spaces: tuple[Space, ActionSpace],
        seed: int | None,
        outputs: Iterable[Output],
        timeout: float | None,
    ) -> PlaySession:
        first.outputs.extend(output_numbers(outputs))
        if seed is not None:
            first.seed = check_seed(seed)
        seconds = seconds_of(timeout, self.timeout)
        method = functools.partial(self._stub.Play, metadata=self._endpoint.metadata)
        return PlaySession(method, first, spaces, self._endpoint, seconds)

    def describe(self, timeout: float | None = None) -> PolicyInfo:
        """Describes the policy and the server's limits."""
        return self._describe(self._due(timeout))

    def policies(self, timeout: float | None = None) -> list[PolicyInfo]:
        """Describes every policy and version that the server has ready, by name, then by version."""
        response = self._call(self._stub.ListPolicies, service_pb2.ListPoliciesRequest(), self._due(timeout))
        return [_info(policy, None) for policy in response.policies]

    def __repr__(self) -> str:
        version = f" version {self._ref.version}" if self._ref.HasField("version") else ""
        version = f" label {self._ref.label!r}" if self._ref.HasField("label") else version
        return f"<PolicyClient of {self._ref.name or 'the policy'}{version} at {self.target}>"

    def close(self) -> None:
        """Closes the connection; calls in flight fail."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _due(self, timeout: float | None) -> _Due:
        seconds = seconds_of(timeout, self.timeout)
        return _Due(seconds, time.monotonic() + seconds)

    def _describe_once(self, due: _Due) -> PolicyInfo:
        if not self._describing.acquire(timeout=due.left()):
            raise no_answer(self._endpoint, due.seconds)
        try:
            return self._info or self._describe(due)
        finally:
            self._describing.release()

    def _describe(self, due: _Due) -> PolicyInfo:
        response = self._get_policy(due)
        self._info = _info(response.policy, _limits(response.limits))
        return self._info

    def _get_policy(self, due: _Due) -> service_pb2.GetPolicyResponse:
        method: Callable[..., service_pb2.GetPolicyResponse] = self._stub.GetPolicy
        return self._call(method, service_pb2.GetPolicyRequest(policy=self._ref), due)

    def _call(self, method: Callable[..., _Response], request: Any, due: _Due) -> _Response:
        backoff = _FIRST_BACKOFF
        last: ServerUnavailableError | None = None
        while True:
            try:
                response = method(request, timeout=due.left(), metadata=self._endpoint.metadata)
                self._answered = True
                return response
            except grpc.RpcError as error:
                failure = translate(error, self._endpoint, due.seconds)
                if last is not None and isinstance(failure, DeadlineExceededError):
                    raise last from error  # why the tries before failed says more than that the time is over
                lasting = not self._answered or isinstance(failure, TlsError)
                if lasting or not isinstance(failure, ServerUnavailableError):
                    raise failure from error
                wait = max(backoff * random.uniform(0.5, 1.0), failure.retry_after or 0.0)
                if wait >= due.left():
                    raise failure from error
                last = failure
            except ValueError as error:
                raise ServerUnavailableError(f"the connection to {self.target} has been closed: {error}") from error
            time.sleep(wait)
            backoff = min(2 * backoff, _LONGEST_BACKOFF)


class _Due(NamedTuple):
    """When a method of the client has to be done, whatever calls it makes."""

    seconds: float  # that it was given
    at: float  # by time.monotonic

    def left(self) -> float:
        """The seconds that are left."""
        return max(0.0, self.at - time.monotonic())


def _limits(limits: service_pb2.Limits) -> Limits:
    return Limits(
        max_batch_size=limits.max_batch_size,
        max_receive_message_bytes=limits.max_receive_message_bytes,
        max_send_message_bytes=limits.max_send_message_bytes,
        max_queued=limits.max_queued,
        max_queue_seconds=limits.max_queue_time.ToNanoseconds() / 1e9,
        max_sessions=limits.max_sessions,
        session_idle_seconds=limits.session_idle_time.ToNanoseconds() / 1e9,
        max_streams_per_connection=limits.max_streams_per_connection,
        max_header_bytes=limits.max_header_bytes,
        min_ping_seconds=limits.min_ping_interval.ToNanoseconds() / 1e9,
        max_connections=limits.max_connections,
        keepalive_seconds=limits.keepalive_interval.ToNanoseconds() / 1e9,
    )


def _info(policy: policy_pb2.Policy, limits: Limits | None) -> PolicyInfo:
    played = policy.episodes
    return PolicyInfo(
        name=policy.name,
        version=policy.version,
        spec=decode_spec(policy.spec),
        spec_hash=policy.spec_hash,
        engine=policy.engine,
        load_time=policy.load_time.ToDatetime(datetime.UTC),
        provenance=decode_struct(policy.provenance),
        labels=tuple(policy.labels),
        episodes=EpisodesPlayed(
            played.count,
            played.mean_return if played.HasField("mean_return") else None,
            played.mean_length if played.HasField("mean_length") else None,
        ),
        limits=limits,
    )
