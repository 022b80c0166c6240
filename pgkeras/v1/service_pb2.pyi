import datetime

from google.protobuf import any_pb2 as _any_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from pgkeras.v1 import policy_pb2 as _policy_pb2
from pgkeras.v1 import spaces_pb2 as _spaces_pb2
from pgkeras.v1 import tensors_pb2 as _tensors_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ActMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACT_MODE_UNSPECIFIED: _ClassVar[ActMode]
    ACT_MODE_SAMPLE: _ClassVar[ActMode]
    ACT_MODE_GREEDY: _ClassVar[ActMode]

class ActOutput(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACT_OUTPUT_UNSPECIFIED: _ClassVar[ActOutput]
    ACT_OUTPUT_ACTION: _ClassVar[ActOutput]
    ACT_OUTPUT_LOG_PROB: _ClassVar[ActOutput]
    ACT_OUTPUT_ENTROPY: _ClassVar[ActOutput]
    ACT_OUTPUT_DISTRIBUTION: _ClassVar[ActOutput]
    ACT_OUTPUT_GREEDY_ACTION: _ClassVar[ActOutput]
ACT_MODE_UNSPECIFIED: ActMode
ACT_MODE_SAMPLE: ActMode
ACT_MODE_GREEDY: ActMode
ACT_OUTPUT_UNSPECIFIED: ActOutput
ACT_OUTPUT_ACTION: ActOutput
ACT_OUTPUT_LOG_PROB: ActOutput
ACT_OUTPUT_ENTROPY: ActOutput
ACT_OUTPUT_DISTRIBUTION: ActOutput
ACT_OUTPUT_GREEDY_ACTION: ActOutput

class ActRequest(_message.Message):
    __slots__ = ("policy", "spec_hash", "observation", "action_mask", "state", "mode", "seed", "outputs")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    SPEC_HASH_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    ACTION_MASK_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    policy: _policy_pb2.PolicyRef
    spec_hash: str
    observation: _tensors_pb2.Value
    action_mask: _tensors_pb2.Tensor
    state: bytes
    mode: ActMode
    seed: int
    outputs: _containers.RepeatedScalarFieldContainer[ActOutput]
    def __init__(self, policy: _Optional[_Union[_policy_pb2.PolicyRef, _Mapping]] = ..., spec_hash: _Optional[str] = ..., observation: _Optional[_Union[_tensors_pb2.Value, _Mapping]] = ..., action_mask: _Optional[_Union[_tensors_pb2.Tensor, _Mapping]] = ..., state: _Optional[bytes] = ..., mode: _Optional[_Union[ActMode, str]] = ..., seed: _Optional[int] = ..., outputs: _Optional[_Iterable[_Union[ActOutput, str]]] = ...) -> None: ...

class ActResponse(_message.Message):
    __slots__ = ("action", "log_prob", "entropy", "greedy_action", "distribution", "state", "policy", "structured_action", "structured_greedy_action")
    ACTION_FIELD_NUMBER: _ClassVar[int]
    LOG_PROB_FIELD_NUMBER: _ClassVar[int]
    ENTROPY_FIELD_NUMBER: _ClassVar[int]
    GREEDY_ACTION_FIELD_NUMBER: _ClassVar[int]
    DISTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    STRUCTURED_ACTION_FIELD_NUMBER: _ClassVar[int]
    STRUCTURED_GREEDY_ACTION_FIELD_NUMBER: _ClassVar[int]
    action: _tensors_pb2.Tensor
    log_prob: _tensors_pb2.Tensor
    entropy: _tensors_pb2.Tensor
    greedy_action: _tensors_pb2.Tensor
    distribution: _policy_pb2.Distribution
    state: bytes
    policy: _policy_pb2.PolicyVersion
    structured_action: _tensors_pb2.Value
    structured_greedy_action: _tensors_pb2.Value
    def __init__(self, action: _Optional[_Union[_tensors_pb2.Tensor, _Mapping]] = ..., log_prob: _Optional[_Union[_tensors_pb2.Tensor, _Mapping]] = ..., entropy: _Optional[_Union[_tensors_pb2.Tensor, _Mapping]] = ..., greedy_action: _Optional[_Union[_tensors_pb2.Tensor, _Mapping]] = ..., distribution: _Optional[_Union[_policy_pb2.Distribution, _Mapping]] = ..., state: _Optional[bytes] = ..., policy: _Optional[_Union[_policy_pb2.PolicyVersion, _Mapping]] = ..., structured_action: _Optional[_Union[_tensors_pb2.Value, _Mapping]] = ..., structured_greedy_action: _Optional[_Union[_tensors_pb2.Value, _Mapping]] = ...) -> None: ...

class PlayRequest(_message.Message):
    __slots__ = ("id", "policy", "spec_hash", "observation", "reward", "terminated", "truncated", "episode_start", "action_mask", "mode", "seed", "outputs", "simulator")
    ID_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    SPEC_HASH_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    REWARD_FIELD_NUMBER: _ClassVar[int]
    TERMINATED_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    EPISODE_START_FIELD_NUMBER: _ClassVar[int]
    ACTION_MASK_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    SIMULATOR_FIELD_NUMBER: _ClassVar[int]
    id: int
    policy: _policy_pb2.PolicyRef
    spec_hash: str
    observation: _tensors_pb2.Value
    reward: _tensors_pb2.Tensor
    terminated: _tensors_pb2.Tensor
    truncated: _tensors_pb2.Tensor
    episode_start: _tensors_pb2.Tensor
    action_mask: _tensors_pb2.Tensor
    mode: ActMode
    seed: int
    outputs: _containers.RepeatedScalarFieldContainer[ActOutput]
    simulator: Simulator
    def __init__(self, id: _Optional[int] = ..., policy: _Optional[_Union[_policy_pb2.PolicyRef, _Mapping]] = ..., spec_hash: _Optional[str] = ..., observation: _Optional[_Union[_tensors_pb2.Value, _Mapping]] = ..., reward: _Optional[_Union[_tensors_pb2.Tensor, _Mapping]] = ..., terminated: _Optional[_Union[_tensors_pb2.Tensor, _Mapping]] = ..., truncated: _Optional[_Union[_tensors_pb2.Tensor, _Mapping]] = ..., episode_start: _Optional[_Union[_tensors_pb2.Tensor, _Mapping]] = ..., action_mask: _Optional[_Union[_tensors_pb2.Tensor, _Mapping]] = ..., mode: _Optional[_Union[ActMode, str]] = ..., seed: _Optional[int] = ..., outputs: _Optional[_Iterable[_Union[ActOutput, str]]] = ..., simulator: _Optional[_Union[Simulator, _Mapping]] = ...) -> None: ...

class Simulator(_message.Message):
    __slots__ = ("observation_space", "action_space", "environments", "name", "version")
    OBSERVATION_SPACE_FIELD_NUMBER: _ClassVar[int]
    ACTION_SPACE_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENTS_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    observation_space: _spaces_pb2.Space
    action_space: _spaces_pb2.Space
    environments: int
    name: str
    version: str
    def __init__(self, observation_space: _Optional[_Union[_spaces_pb2.Space, _Mapping]] = ..., action_space: _Optional[_Union[_spaces_pb2.Space, _Mapping]] = ..., environments: _Optional[int] = ..., name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class PlayResponse(_message.Message):
    __slots__ = ("id", "act", "error", "waiting", "hold")
    ID_FIELD_NUMBER: _ClassVar[int]
    ACT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    HOLD_FIELD_NUMBER: _ClassVar[int]
    id: int
    act: ActResponse
    error: PlayError
    waiting: PlayWaiting
    hold: _tensors_pb2.Tensor
    def __init__(self, id: _Optional[int] = ..., act: _Optional[_Union[ActResponse, _Mapping]] = ..., error: _Optional[_Union[PlayError, _Mapping]] = ..., waiting: _Optional[_Union[PlayWaiting, _Mapping]] = ..., hold: _Optional[_Union[_tensors_pb2.Tensor, _Mapping]] = ...) -> None: ...

class PlayWaiting(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class PlayError(_message.Message):
    __slots__ = ("code", "message", "details")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    details: _containers.RepeatedCompositeFieldContainer[_any_pb2.Any]
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., details: _Optional[_Iterable[_Union[_any_pb2.Any, _Mapping]]] = ...) -> None: ...

class GetPolicyRequest(_message.Message):
    __slots__ = ("policy",)
    POLICY_FIELD_NUMBER: _ClassVar[int]
    policy: _policy_pb2.PolicyRef
    def __init__(self, policy: _Optional[_Union[_policy_pb2.PolicyRef, _Mapping]] = ...) -> None: ...

class GetPolicyResponse(_message.Message):
    __slots__ = ("policy", "limits")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    policy: _policy_pb2.Policy
    limits: Limits
    def __init__(self, policy: _Optional[_Union[_policy_pb2.Policy, _Mapping]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_batch_size", "max_receive_message_bytes", "max_send_message_bytes", "max_queued", "max_queue_time", "max_sessions", "session_idle_time", "max_streams_per_connection", "max_header_bytes", "min_ping_interval", "max_connections", "keepalive_interval", "compression")
    MAX_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_RECEIVE_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_SEND_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_QUEUED_FIELD_NUMBER: _ClassVar[int]
    MAX_QUEUE_TIME_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    SESSION_IDLE_TIME_FIELD_NUMBER: _ClassVar[int]
    MAX_STREAMS_PER_CONNECTION_FIELD_NUMBER: _ClassVar[int]
    MAX_HEADER_BYTES_FIELD_NUMBER: _ClassVar[int]
    MIN_PING_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    MAX_CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    KEEPALIVE_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    max_batch_size: int
    max_receive_message_bytes: int
    max_send_message_bytes: int
    max_queued: int
    max_queue_time: _duration_pb2.Duration
    max_sessions: int
    session_idle_time: _duration_pb2.Duration
    max_streams_per_connection: int
    max_header_bytes: int
    min_ping_interval: _duration_pb2.Duration
    max_connections: int
    keepalive_interval: _duration_pb2.Duration
    compression: bool
    def __init__(self, max_batch_size: _Optional[int] = ..., max_receive_message_bytes: _Optional[int] = ..., max_send_message_bytes: _Optional[int] = ..., max_queued: _Optional[int] = ..., max_queue_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_sessions: _Optional[int] = ..., session_idle_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_streams_per_connection: _Optional[int] = ..., max_header_bytes: _Optional[int] = ..., min_ping_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_connections: _Optional[int] = ..., keepalive_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., compression: bool = ...) -> None: ...

class ListPoliciesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListPoliciesResponse(_message.Message):
    __slots__ = ("policies",)
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    policies: _containers.RepeatedCompositeFieldContainer[_policy_pb2.Policy]
    def __init__(self, policies: _Optional[_Iterable[_Union[_policy_pb2.Policy, _Mapping]]] = ...) -> None: ...
