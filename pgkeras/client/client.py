"""PolicyClient: requests actions from a policy server. Needs only NumPy and gRPC."""

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

# Delay before a call that failed with UNAVAILABLE is retried: doubles each time, and is randomly reduced by up to half.
_FIRST_BACKOFF = 0.1
_LONGEST_BACKOFF = 1.0

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


@dataclass(frozen=True)
class Limits:
    """The limits of a server.

    Args:
        max_batch_size: Maximum number of observations in a request.
        max_receive_message_bytes: Maximum size of a message that the server receives.
        max_send_message_bytes: Maximum size of a message that the server sends.
        max_queued: Maximum number of queued observations of the policy.
        max_queue_seconds: Maximum time in the queue.
        max_sessions: Maximum number of open sessions of all clients.
        session_idle_seconds: Time after which an idle session is ended.
        max_streams_per_connection: Maximum number of concurrent calls and sessions per connection.
        max_header_bytes: Maximum size of a call's metadata.
        min_ping_seconds: Minimum interval between keepalive pings.
        max_connections: Maximum number of open connections of all clients.
        keepalive_seconds: Time after which the server pings an idle connection.
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
    """Statistics of the episodes played with a version in sessions.

    Args:
        count: Number of finished episodes since the server loaded the version.
        mean_return: Mean undiscounted return of the last 100 episodes; None without episodes.
        mean_length: Mean length of the last 100 episodes, in actions; None without episodes.
    """

    count: int
    mean_return: float | None
    mean_length: float | None


@dataclass(frozen=True)
class PolicyInfo:
    """Description of a policy version on a server.

    Args:
        name: Name of the policy.
        version: Version of the policy.
        spec: Its specification: spaces and distribution.
        spec_hash: Hash of the specification.
        engine: The engine that computes it.
        load_time: When the server loaded it.
        provenance: How it was trained and exported.
        labels: The labels of this version.
        episodes: Statistics of the episodes played with it.
        limits: The server's limits; None in a list of policies.
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
    """A connection to a policy on a server. Thread-safe.

    If the server is unavailable, a call is retried with backoff until its timeout, for example while the server
    restarts. Before the first response of a server, calls fail immediately instead, because the address may be wrong.

    Example::

        with PolicyClient("127.0.0.1:50051") as client:
            action = client.act([0.0, 0.1, 0.0, -0.1]).action

    Args:
        target: HOST:PORT, or unix:PATH.
        policy: Name of the policy; may be empty if the server has only one.
        version: Version of the policy; None for the newest.
        timeout: Default timeout of a call in seconds, including the connection.
        label: Label of the version, instead of ``version``.
        tls: Whether, or how, to use TLS; True trusts gRPC's default certificate authorities.
        token: Token that authenticates every call, for servers that require one.

    Raises:
        InvalidRequestError: Both a version and a label are given.
        ConfigError: ``tls`` or ``token`` is invalid.

    Every method raises:
        ServerUnavailableError: No server responds at the target, or it is loading or draining.
        TlsError: The connection could not be secured.
        UnauthenticatedError: The server requires a token, or does not know this one.
        DeadlineExceededError: No response arrived in time.
        PolicyNotFoundError: No such policy, version or label; the message lists the available ones.
        PolicyServiceError: Another error of the call.
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
        """Requests the action for an observation, or for each observation of a batch.

        Args:
            observations: An observation with the space's shape, or a batch with a leading axis. Mappings or sequences
                of parts for a Dict or Tuple space, strings for a Text space. Lists, and arrays of another dtype of the
                same kind (such as float64 for float32), are cast.
            mode: "sample" samples from the distribution, "greedy" takes its mode.
            seed: Seed that makes the sample reproducible, an integer in [0, 2**64).
            outputs: Requested outputs, in addition to the action.
            action_mask: Allowed actions, ``[mask_size]`` or ``[B, mask_size]``, as bools or as zeros and ones; None
                allows all.
            state: For a policy with memory, the ``state`` of the previous response; empty at the start of an episode.
            timeout: Timeout of this call in seconds.

        Raises:
            InvalidRequestError: The observations, the mode, the seed or an output is invalid.
            SpecMismatchError: The server now serves a version with another specification.
            ServerBusyError: The server is full; ``retry_after`` is the delay before a retry.
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
        """Opens a session for a simulator with one or more environments. The policy version stays the same.

        With declared spaces, the simulator can also train a policy of ``pgkeras train --listen``. A server of trained
        policies checks that the spaces match.

        Example::

            with client.play(seed=1) as session:
                action = session.step(observation)
                while playing:
                    observation, reward, terminated, truncated, _ = environment.step(action)
                    action = session.step(observation, reward, terminated, truncated)

        Args:
            mode: "sample" samples from the distribution, "greedy" takes its mode.
            seed: Seed that makes the whole session reproducible, an integer in [0, 2**64).
            outputs: Requested outputs, in addition to the action; see the session's ``answer``.
            timeout: Timeout of a step in seconds; None for the client's default. While a policy in training is being
                updated, the server sends a message every few seconds, and each one restarts the timeout.
            observation_space: The simulator's observation space, from :mod:`pgkeras.spaces` or gymnasium.
            action_space: The simulator's action space. Give both spaces, or neither.
            environments: Number of the simulator's environments; 0 if unknown.
            name: Name of the simulator.

        Raises:
            InvalidRequestError: The mode, the seed, an output or a space is invalid.
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
        self._get_policy(due)  # waits for a server that restarts, because a session is not retried
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
        """Describes every loaded version on the server, by name, then by version."""
        response = self._call(self._stub.ListPolicies, service_pb2.ListPoliciesRequest(), self._due(timeout))
        return [_info(policy, None) for policy in response.policies]

    def __repr__(self) -> str:
        version = f" version {self._ref.version}" if self._ref.HasField("version") else ""
        version = f" label {self._ref.label!r}" if self._ref.HasField("label") else version
        return f"<PolicyClient of {self._ref.name or 'the policy'}{version} at {self.target}>"

    def close(self) -> None:
        """Closes the connection. Calls in progress fail."""
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
                    raise last from error  # the earlier failure is more informative than the timeout
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
    """The deadline of a client method, common to all calls that it makes."""

    seconds: float  # the timeout
    at: float  # the deadline (time.monotonic)

    def left(self) -> float:
        """Returns the remaining seconds."""
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
