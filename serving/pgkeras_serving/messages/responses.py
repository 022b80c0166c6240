"""Encodes an engine's outputs as a response."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from numpy.typing import NDArray

from pgkeras.protocol.values import first, write_value
from pgkeras.protocol.wire import write_distribution, write_tensor
from pgkeras.spaces import Dict, Tuple
from pgkeras.spaces.spec import PolicySpec
from pgkeras.v1 import policy_pb2, service_pb2, tensors_pb2
from pgkeras_serving.messages.greedy import greedy_log_prob
from pgkeras_serving.messages.templates import FieldPath, Pattern

__all__ = ["DEFAULT_OUTPUTS", "OUTPUTS", "Query", "ResponseEncoder"]

_LOG_PROB = service_pb2.ACT_OUTPUT_LOG_PROB
_ENTROPY = service_pb2.ACT_OUTPUT_ENTROPY
_DISTRIBUTION = service_pb2.ACT_OUTPUT_DISTRIBUTION
_GREEDY_ACTION = service_pb2.ACT_OUTPUT_GREEDY_ACTION

OUTPUTS = frozenset(service_pb2.ActOutput.values()) - {service_pb2.ACT_OUTPUT_UNSPECIFIED}
"""The outputs that a request may ask for."""
DEFAULT_OUTPUTS = frozenset({_LOG_PROB, _ENTROPY, _DISTRIBUTION})
"""The outputs, in addition to the action, of a response if the request names none."""

_MAX_FORMS = 256


class Query(NamedTuple):
    """A checked request.

    Args:
        inputs: The engine's inputs: observation ``[B, ...]``, noise ``[B, noise_size]`` and, for a policy with memory,
            state ``[B, state_size]``.
        has_batch_axis: Whether the request is a batch. The response then is one, too.
        greedy: Whether the action is the distribution's mode.
        outputs: Requested ActOutput numbers, in addition to the action.
        needs: The engine outputs needed for the response.
    """

    inputs: dict[str, NDArray[Any]]
    has_batch_axis: bool
    greedy: bool
    outputs: frozenset[int]
    needs: frozenset[str]


class _Form(NamedTuple):
    """Key of responses that differ only in their numbers.

    Args:
        rows: Number of observations; None for a single one without a batch axis.
        outputs: ActOutput numbers, in addition to the action.
        state_bytes: Length of the memory state; 0 in a session, where the server keeps the state.
    """

    rows: int | None
    outputs: frozenset[int]
    state_bytes: int


class ResponseEncoder:
    """Encodes the responses of one policy.

    The first response of a form is built as a message. Later ones replace the numbers in its bytes, because building
    each message would take longer than the policy itself.

    Args:
        spec: The policy's specification.
        version: The policy version that every response carries.
    """

    def __init__(self, spec: PolicySpec, version: policy_pb2.PolicyVersion) -> None:
        self._spec = spec
        self._version = version
        # Responses of structured policies have no fixed layout, so each is built as a message.
        parameters = {name: f"distribution.{spec.distribution.value}.{name}" for name in spec.distribution.parameters}
        tensors = {name: name for name in ("action", "log_prob", "entropy", "greedy_action")} | parameters
        places = {name: FieldPath.of(service_pb2.ActResponse, f"{path}.data") for name, path in tensors.items()}
        self._places = places | {"state": FieldPath.of(service_pb2.ActResponse, "state")}
        self._forms: dict[_Form, Pattern] = {}

    def needs(self, greedy: bool, outputs: frozenset[int]) -> frozenset[str]:
        """Returns the engine outputs needed for a response. They always include the entropy, for the metrics."""
        names = {"greedy_action" if greedy else "action", "entropy"}
        if _GREEDY_ACTION in outputs:
            names.add("greedy_action")
        if _LOG_PROB in outputs and not greedy:
            names.add("log_prob")
        if _DISTRIBUTION in outputs or (_LOG_PROB in outputs and greedy):
            names.update(self._spec.parameter_outputs)
        if self._spec.state_size:
            names.add("next_state")
        return frozenset(names)

    def encode(self, query: Query, answer: Mapping[str, NDArray[Any]], state: bytes = b"") -> bytes:
        """Encodes an ``ActResponse``.

        Args:
            query: The request.
            answer: The engine's outputs.
            state: The sealed memory state for the client to keep; empty for none.
        """
        arrays = answer
        if query.greedy:
            arrays = {**arrays, "action": arrays["greedy_action"]}
            if _LOG_PROB in query.outputs:
                arrays["log_prob"] = greedy_log_prob(self._spec, arrays)
        space = self._spec.action_space
        if isinstance(space, Dict | Tuple):
            return self._structured(query, arrays, state).SerializeToString()
        if arrays["action"].dtype != space.dtype:
            actions = {name: self._spec.from_graph(arrays[name]) for name in _ACTIONS if name in arrays}
            arrays = {**arrays, **actions}
        key = _Form(len(arrays["action"]) if query.has_batch_axis else None, query.outputs, len(state))
        form = self._forms.get(key) or self._new_form(key, arrays, state)
        return form.write([state if name == "state" else arrays[name].tobytes() for name in form.names])

    def _structured(self, query: Query, arrays: Mapping[str, NDArray[Any]], state: bytes) -> service_pb2.ActResponse:
        response = service_pb2.ActResponse(policy=self._version, state=state)
        given = arrays if query.has_batch_axis else {name: array[0, ...] for name, array in arrays.items()}
        for name, tensor in self._tensors(response, query.outputs):
            if name in _ACTIONS:
                values, _ = self._spec.action_layout.unpack(arrays[name])
                place = getattr(response, f"structured_{name}")
                write_value(place, values if query.has_batch_axis else first(values))
            else:
                write_tensor(tensor, given[name])
        if _DISTRIBUTION in query.outputs:
            write_distribution(response.distribution, self._spec, given)
        return response

    def _new_form(self, key: _Form, arrays: Mapping[str, NDArray[Any]], state: bytes) -> Pattern:
        rows, outputs, _ = key
        response = service_pb2.ActResponse(policy=self._version, state=state)
        for name, tensor in self._tensors(response, outputs):
            write_tensor(tensor, arrays[name] if rows is not None else arrays[name].reshape(arrays[name].shape[1:]))
        form = Pattern(response.SerializeToString(), self._places)
        if len(self._forms) < _MAX_FORMS:
            self._forms[key] = form
        return form

    def _tensors(
        self, response: service_pb2.ActResponse, outputs: frozenset[int]
    ) -> Iterator[tuple[str, tensors_pb2.Tensor]]:
        yield "action", response.action
        if _LOG_PROB in outputs:
            yield "log_prob", response.log_prob
        if _ENTROPY in outputs:
            yield "entropy", response.entropy
        if _GREEDY_ACTION in outputs:
            yield "greedy_action", response.greedy_action
        if _DISTRIBUTION in outputs and not self._spec.is_structured:
            parameters = getattr(response.distribution, self._spec.distribution.value)
            for name in self._spec.distribution.parameters:
                yield name, getattr(parameters, name)


_ACTIONS = ("action", "greedy_action")
