import datetime

from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from pgkeras.v1 import spaces_pb2 as _spaces_pb2
from pgkeras.v1 import tensors_pb2 as _tensors_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DistributionKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DISTRIBUTION_KIND_UNSPECIFIED: _ClassVar[DistributionKind]
    DISTRIBUTION_KIND_CATEGORICAL: _ClassVar[DistributionKind]
    DISTRIBUTION_KIND_DIAGONAL_GAUSSIAN: _ClassVar[DistributionKind]
    DISTRIBUTION_KIND_MULTI_CATEGORICAL: _ClassVar[DistributionKind]
    DISTRIBUTION_KIND_MULTI_BERNOULLI: _ClassVar[DistributionKind]
    DISTRIBUTION_KIND_SQUASHED_GAUSSIAN: _ClassVar[DistributionKind]
    DISTRIBUTION_KIND_KUMARASWAMY: _ClassVar[DistributionKind]
    DISTRIBUTION_KIND_STRUCTURED: _ClassVar[DistributionKind]
DISTRIBUTION_KIND_UNSPECIFIED: DistributionKind
DISTRIBUTION_KIND_CATEGORICAL: DistributionKind
DISTRIBUTION_KIND_DIAGONAL_GAUSSIAN: DistributionKind
DISTRIBUTION_KIND_MULTI_CATEGORICAL: DistributionKind
DISTRIBUTION_KIND_MULTI_BERNOULLI: DistributionKind
DISTRIBUTION_KIND_SQUASHED_GAUSSIAN: DistributionKind
DISTRIBUTION_KIND_KUMARASWAMY: DistributionKind
DISTRIBUTION_KIND_STRUCTURED: DistributionKind

class PolicySpec(_message.Message):
    __slots__ = ("observation_space", "action_space", "distribution", "state_size", "mask_size", "part_distributions")
    OBSERVATION_SPACE_FIELD_NUMBER: _ClassVar[int]
    ACTION_SPACE_FIELD_NUMBER: _ClassVar[int]
    DISTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    STATE_SIZE_FIELD_NUMBER: _ClassVar[int]
    MASK_SIZE_FIELD_NUMBER: _ClassVar[int]
    PART_DISTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    observation_space: _spaces_pb2.Space
    action_space: _spaces_pb2.Space
    distribution: DistributionKind
    state_size: int
    mask_size: int
    part_distributions: _containers.RepeatedScalarFieldContainer[DistributionKind]
    def __init__(self, observation_space: _Optional[_Union[_spaces_pb2.Space, _Mapping]] = ..., action_space: _Optional[_Union[_spaces_pb2.Space, _Mapping]] = ..., distribution: _Optional[_Union[DistributionKind, str]] = ..., state_size: _Optional[int] = ..., mask_size: _Optional[int] = ..., part_distributions: _Optional[_Iterable[_Union[DistributionKind, str]]] = ...) -> None: ...

class Policy(_message.Message):
    __slots__ = ("name", "version", "spec", "spec_hash", "engine", "load_time", "provenance", "labels", "episodes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    SPEC_HASH_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    LOAD_TIME_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    EPISODES_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    spec: PolicySpec
    spec_hash: str
    engine: str
    load_time: _timestamp_pb2.Timestamp
    provenance: _struct_pb2.Struct
    labels: _containers.RepeatedScalarFieldContainer[str]
    episodes: EpisodeSummary
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., spec: _Optional[_Union[PolicySpec, _Mapping]] = ..., spec_hash: _Optional[str] = ..., engine: _Optional[str] = ..., load_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., provenance: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., labels: _Optional[_Iterable[str]] = ..., episodes: _Optional[_Union[EpisodeSummary, _Mapping]] = ...) -> None: ...

class EpisodeSummary(_message.Message):
    __slots__ = ("count", "mean_return", "mean_length")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    MEAN_RETURN_FIELD_NUMBER: _ClassVar[int]
    MEAN_LENGTH_FIELD_NUMBER: _ClassVar[int]
    count: int
    mean_return: float
    mean_length: float
    def __init__(self, count: _Optional[int] = ..., mean_return: _Optional[float] = ..., mean_length: _Optional[float] = ...) -> None: ...

class PolicyRef(_message.Message):
    __slots__ = ("name", "version", "label")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    label: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., label: _Optional[str] = ...) -> None: ...

class PolicyVersion(_message.Message):
    __slots__ = ("name", "version", "spec_hash")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SPEC_HASH_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    spec_hash: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., spec_hash: _Optional[str] = ...) -> None: ...

class Distribution(_message.Message):
    __slots__ = ("categorical", "diagonal_gaussian", "multi_categorical", "multi_bernoulli", "squashed_gaussian", "kumaraswamy", "structured")
    CATEGORICAL_FIELD_NUMBER: _ClassVar[int]
    DIAGONAL_GAUSSIAN_FIELD_NUMBER: _ClassVar[int]
    MULTI_CATEGORICAL_FIELD_NUMBER: _ClassVar[int]
    MULTI_BERNOULLI_FIELD_NUMBER: _ClassVar[int]
    SQUASHED_GAUSSIAN_FIELD_NUMBER: _ClassVar[int]
    KUMARASWAMY_FIELD_NUMBER: _ClassVar[int]
    STRUCTURED_FIELD_NUMBER: _ClassVar[int]
    categorical: Categorical
    diagonal_gaussian: DiagonalGaussian
    multi_categorical: MultiCategorical
    multi_bernoulli: MultiBernoulli
    squashed_gaussian: SquashedGaussian
    kumaraswamy: Kumaraswamy
    structured: StructuredDistribution
    def __init__(self, categorical: _Optional[_Union[Categorical, _Mapping]] = ..., diagonal_gaussian: _Optional[_Union[DiagonalGaussian, _Mapping]] = ..., multi_categorical: _Optional[_Union[MultiCategorical, _Mapping]] = ..., multi_bernoulli: _Optional[_Union[MultiBernoulli, _Mapping]] = ..., squashed_gaussian: _Optional[_Union[SquashedGaussian, _Mapping]] = ..., kumaraswamy: _Optional[_Union[Kumaraswamy, _Mapping]] = ..., structured: _Optional[_Union[StructuredDistribution, _Mapping]] = ...) -> None: ...

class Categorical(_message.Message):
    __slots__ = ("probabilities",)
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    probabilities: _tensors_pb2.Tensor
    def __init__(self, probabilities: _Optional[_Union[_tensors_pb2.Tensor, _Mapping]] = ...) -> None: ...

class DiagonalGaussian(_message.Message):
    __slots__ = ("mean", "stddev")
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STDDEV_FIELD_NUMBER: _ClassVar[int]
    mean: _tensors_pb2.Tensor
    stddev: _tensors_pb2.Tensor
    def __init__(self, mean: _Optional[_Union[_tensors_pb2.Tensor, _Mapping]] = ..., stddev: _Optional[_Union[_tensors_pb2.Tensor, _Mapping]] = ...) -> None: ...

class MultiCategorical(_message.Message):
    __slots__ = ("probabilities",)
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    probabilities: _tensors_pb2.Tensor
    def __init__(self, probabilities: _Optional[_Union[_tensors_pb2.Tensor, _Mapping]] = ...) -> None: ...

class MultiBernoulli(_message.Message):
    __slots__ = ("probabilities",)
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    probabilities: _tensors_pb2.Tensor
    def __init__(self, probabilities: _Optional[_Union[_tensors_pb2.Tensor, _Mapping]] = ...) -> None: ...

class SquashedGaussian(_message.Message):
    __slots__ = ("mean", "stddev")
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STDDEV_FIELD_NUMBER: _ClassVar[int]
    mean: _tensors_pb2.Tensor
    stddev: _tensors_pb2.Tensor
    def __init__(self, mean: _Optional[_Union[_tensors_pb2.Tensor, _Mapping]] = ..., stddev: _Optional[_Union[_tensors_pb2.Tensor, _Mapping]] = ...) -> None: ...

class Kumaraswamy(_message.Message):
    __slots__ = ("a", "b")
    A_FIELD_NUMBER: _ClassVar[int]
    B_FIELD_NUMBER: _ClassVar[int]
    a: _tensors_pb2.Tensor
    b: _tensors_pb2.Tensor
    def __init__(self, a: _Optional[_Union[_tensors_pb2.Tensor, _Mapping]] = ..., b: _Optional[_Union[_tensors_pb2.Tensor, _Mapping]] = ...) -> None: ...

class StructuredDistribution(_message.Message):
    __slots__ = ("parts",)
    class PartsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Distribution
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Distribution, _Mapping]] = ...) -> None: ...
    PARTS_FIELD_NUMBER: _ClassVar[int]
    parts: _containers.MessageMap[str, Distribution]
    def __init__(self, parts: _Optional[_Mapping[str, Distribution]] = ...) -> None: ...
