"""Converts arguments to messages, responses to arrays, and failures to exceptions, for calls and sessions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import grpc
import numpy as np
from google.rpc import status_pb2
from numpy.typing import NDArray

from pgkeras.client.connection import Endpoint, explain_refusal
from pgkeras.errors import (
    DeadlineExceededError,
    InvalidRequestError,
    PolicyServiceError,
    ServerFailedError,
    ServerUnavailableError,
)
from pgkeras.protocol.status import DETAILS_KEY, decode_error, read_status
from pgkeras.protocol.values import decode_value
from pgkeras.protocol.wire import decode_distribution, decode_tensor
from pgkeras.spaces import ActionSpace, Dict, Tuple, as_gymnasium
from pgkeras.v1 import service_pb2

__all__ = [
    "Actions",
    "Mode",
    "Output",
    "check_seed",
    "mode_number",
    "no_answer",
    "output_numbers",
    "read_actions",
    "read_step",
    "seconds_of",
    "translate",
]

Mode = Literal["sample", "greedy"]
Output = Literal["log_prob", "entropy", "distribution", "greedy_action"]

_LONGEST_SECONDS = 1e8

_MODES = {"sample": service_pb2.ACT_MODE_SAMPLE, "greedy": service_pb2.ACT_MODE_GREEDY}
_OUTPUTS = {
    "log_prob": service_pb2.ACT_OUTPUT_LOG_PROB,
    "entropy": service_pb2.ACT_OUTPUT_ENTROPY,
    "distribution": service_pb2.ACT_OUTPUT_DISTRIBUTION,
    "greedy_action": service_pb2.ACT_OUTPUT_GREEDY_ACTION,
}


@dataclass(frozen=True)
class Actions:
    """The response for an observation or a batch. Arrays have a batch axis if the observations had one.

    Args:
        action: Actions ``[B, *action_space.shape]`` of the action space's dtype; for a Dict or Tuple, a dict or tuple
            of the actions of its parts.
        log_prob: float32 ``[B]``: ln P(action | observation). For a clipped continuous action, that of the sample
            before clipping. None if not requested, as for the next two.
        entropy: float32 ``[B]``, in nats.
        greedy_action: The action of mode "greedy", in the form of ``action``.
        distribution: Parameters of the distribution, by the names in :attr:`DistributionKind.parameters`; for a Dict or
            Tuple, by the key or index of each part. Empty if not requested.
        state: For a policy with memory, the opaque state to send with the next observations. It consists of one piece
            of equal length per row of the batch; a piece of zero bytes starts an episode. Empty otherwise, and in
            sessions.
        policy: Name of the policy.
        version: Version of the policy.
    """

    action: Any
    log_prob: NDArray[np.float32] | None
    entropy: NDArray[np.float32] | None
    greedy_action: Any
    distribution: dict[str, Any]
    state: bytes
    policy: str
    version: int

    def _repr_html_(self) -> str:
        """Renders the distributions and the chosen actions for a notebook."""
        from pgkeras.client.display import html

        return html(self)


def mode_number(mode: Mode) -> Any:
    """Returns the ActMode of a name.

    Raises:
        InvalidRequestError: The name is unknown.
    """
    return _number(_MODES, mode, "mode")


def output_numbers(outputs: Iterable[Output]) -> list[Any]:
    """Returns the ActOutputs of some names, and that of the action.

    Raises:
        InvalidRequestError: A name is unknown.
    """
    return [service_pb2.ACT_OUTPUT_ACTION, *(_number(_OUTPUTS, output, "outputs") for output in outputs)]


def check_seed(seed: int) -> int:
    """Returns the seed if it is valid.

    Raises:
        InvalidRequestError: The seed is outside [0, 2**64).
    """
    if not 0 <= seed < 2**64:
        raise InvalidRequestError("seed", "an integer from 0 to 2**64 - 1", str(seed))
    return seed


def seconds_of(timeout: float | None, default: float) -> float:
    """Returns the timeout of a call or a step, limited to three years, because threads and gRPC have maximum timeouts.

    Args:
        timeout: The caller's timeout, or None.
        default: The timeout if the caller gives none.
    """
    return min(default if timeout is None else timeout, _LONGEST_SECONDS)


def read_actions(response: service_pb2.ActResponse, space: ActionSpace) -> Actions:
    """Decodes a response to arrays.

    Args:
        response: The response.
        space: The policy's action space.

    Raises:
        ServerFailedError: The response cannot be decoded.
    """
    try:
        return Actions(
            action=_action(response, "action", space),
            log_prob=_optional(response, "log_prob", np.float32),
            entropy=_optional(response, "entropy", np.float32),
            greedy_action=_action(response, "greedy_action", space) if _has_greedy_action(response) else None,
            distribution=decode_distribution(response.distribution),
            state=response.state,
            policy=response.policy.name,
            version=response.policy.version,
        )
    except InvalidRequestError as error:
        raise _unreadable(str(error)) from error


def read_step(
    response: service_pb2.PlayResponse, space: ActionSpace, single: bool
) -> tuple[Actions, NDArray[np.bool_] | None]:
    """Decodes the response to a session's step: the actions, and which environments must wait (None for none).

    Args:
        response: The response.
        space: The policy's action space.
        single: Whether the step was that of a single environment. The arrays then have no batch axis.

    Raises:
        ServerFailedError: The response cannot be decoded, or has not one row for a single environment.
        PolicyServiceError: The response is an error.
    """
    if response.HasField("error"):
        error = response.error
        raise decode_error(status_pb2.Status(code=error.code, message=error.message, details=error.details))
    if not response.HasField("act"):
        raise _unreadable("it has neither actions nor an error")
    actions = read_actions(response.act, space)
    try:
        hold = _optional(response, "hold", np.bool_)
    except InvalidRequestError as error:
        raise _unreadable(str(error)) from error
    if not single:
        return actions, hold
    if hold is not None:
        _only_row(hold)
    names = ("action", "log_prob", "entropy", "greedy_action", "distribution")
    rows = {name: _only_row(value) for name in names if (value := getattr(actions, name)) is not None}
    return replace(actions, **rows), hold


def _optional(response: Any, name: str, dtype: Any) -> NDArray[Any] | None:
    if not response.HasField(name):
        return None
    array = decode_tensor(getattr(response, name), name)
    if array.dtype != dtype:
        raise InvalidRequestError(name, f"dtype {np.dtype(dtype)}", f"dtype {array.dtype}")
    return array


def _only_row(batch: Any) -> Any:
    if isinstance(batch, dict):
        return {key: _only_row(part) for key, part in batch.items()}
    if isinstance(batch, tuple):
        return tuple(map(_only_row, batch))
    if batch.shape[:1] != (1,):
        raise ServerFailedError(f"the server answered one observation with an array of shape {list(batch.shape)}")
    return batch[0, ...]


def _unreadable(reason: str) -> ServerFailedError:
    return ServerFailedError(f"the server's answer cannot be read: {reason}; is the server newer than this client?")


def _has_greedy_action(response: service_pb2.ActResponse) -> bool:
    return response.HasField("greedy_action") or response.HasField("structured_greedy_action")


def _action(response: service_pb2.ActResponse, name: str, space: ActionSpace) -> Any:
    has_parts = isinstance(space, Dict | Tuple)
    field: Any = f"structured_{name}" if has_parts else name
    if not response.HasField(field):
        raise _unreadable(f"it has no {field}")
    if not has_parts:
        return decode_tensor(getattr(response, name), name)
    try:
        return as_gymnasium(decode_value(getattr(response, field), space, field), space)
    except KeyError as error:
        raise _unreadable(f"{field} has no part called {error}") from error


def translate(error: Any, target: Endpoint, seconds: float) -> PolicyServiceError:
    """Converts the failure of a call to an exception.

    Args:
        error: gRPC's exception.
        target: The server.
        seconds: The timeout of the call.
    """
    trailing = error.trailing_metadata() or ()
    failure = decode_error(read_status(error.code().value[0], error.details() or "", trailing))
    if any(key == DETAILS_KEY for key, _ in trailing):
        return failure  # an error sent by the server
    if isinstance(failure, DeadlineExceededError):
        return no_answer(target, seconds)
    if error.code() is grpc.StatusCode.CANCELLED:
        return ServerUnavailableError(
            f"{target} has cut the call off: it is stopping, or has far more calls than it can take; try again in a "
            "moment",
            failure.retry_after if isinstance(failure, ServerUnavailableError) else None,
        )
    if isinstance(failure, ServerUnavailableError):
        if refusal := explain_refusal(target, str(failure)):
            return refusal
        return ServerUnavailableError(
            f"no policy server answers at {target}{target.proxy}; start one with: pgkeras serve, or check the address "
            f"({failure})",
            failure.retry_after,
        )
    return failure


def no_answer(target: Endpoint, seconds: float, what: str = "call") -> DeadlineExceededError:
    """Returns the error for a call or a session's step without a response within the timeout.

    Args:
        target: The server.
        seconds: The timeout.
        what: "call" or "session": what has the timeout.
    """
    return DeadlineExceededError(
        f"no answer from {target} within {seconds:g} s; is it the right address? If the server is just slow, "
        f"give the {what} a longer timeout"
    )


def _number(table: dict[str, Any], name: str, field: str) -> Any:
    if name not in table:
        raise InvalidRequestError(field, f"one of {', '.join(table)}", repr(name))
    return table[name]
