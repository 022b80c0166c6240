"""Converts arguments to messages, responses to arrays and failures to exceptions, for calls and sessions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import grpc
import numpy as np
from numpy.typing import NDArray

from pgkeras.client.connection import Endpoint, explain_refusal
from pgkeras.errors import DeadlineExceededError, InvalidRequestError, PolicyServiceError, ServerUnavailableError
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
    """The answer for one observation or a batch; arrays have a batch axis if the observations had one.

    Args:
        action: Actions, of the action space's dtype and ``[B, *action_space.shape]``; of a Dict or Tuple, a dict or
            tuple of its parts' actions.
        log_prob: float32 ``[B]``: ln P(action | observation); for a clipped continuous action, of the sample before
            clipping. None if not asked for, like the others below.
        entropy: float32 ``[B]``, in nats.
        greedy_action: What mode "greedy" would have done; like ``action``.
        distribution: Its parameters, by the names in :attr:`DistributionKind.parameters`; for a Dict or Tuple, by the
            key or number of each part. Empty if not asked for.
        state: For a policy with memory, what to send with the next observations: opaque, but row i of a batch is the
            i-th of equally long pieces, and a piece of zero bytes starts an episode. Empty otherwise, and in sessions.
        policy: Name of the policy that answered.
        version: Its version.
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
        """In a notebook: the distribution of every observation, and what was chosen from it."""
        from pgkeras.client.display import html

        return html(self)


def mode_number(mode: Mode) -> Any:
    """The ActMode of a name.

    Raises:
        InvalidRequestError: There is none.
    """
    return _number(_MODES, mode, "mode")


def output_numbers(outputs: Iterable[Output]) -> list[Any]:
    """The ActOutputs of some names, with the action's.

    Raises:
        InvalidRequestError: There is none for one of them.
    """
    return [service_pb2.ACT_OUTPUT_ACTION, *(_number(_OUTPUTS, output, "outputs") for output in outputs)]


def check_seed(seed: int) -> int:
    """Returns the seed if it is valid.

    Raises:
        InvalidRequestError: It lies outside [0, 2**64).
    """
    if not 0 <= seed < 2**64:
        raise InvalidRequestError("seed", "an integer from 0 to 2**64 - 1", str(seed))
    return seed


def seconds_of(timeout: float | None, default: float) -> float:
    """The seconds that a call or a step may take: some years at most, as neither threads nor gRPC can wait for ever.

    Args:
        timeout: What the caller said; None for nothing.
        default: What holds then.
    """
    return min(default if timeout is None else timeout, _LONGEST_SECONDS)


def read_actions(response: service_pb2.ActResponse, space: ActionSpace) -> Actions:
    """An answer as arrays.

    Args:
        response: The answer.
        space: The policy's action space.
    """
    return Actions(
        action=_action(response, "action", space),
        log_prob=decode_tensor(response.log_prob, "log_prob") if response.HasField("log_prob") else None,
        entropy=decode_tensor(response.entropy, "entropy") if response.HasField("entropy") else None,
        greedy_action=_action(response, "greedy_action", space) if _has_greedy_action(response) else None,
        distribution=decode_distribution(response.distribution),
        state=response.state,
        policy=response.policy.name,
        version=response.policy.version,
    )


def _has_greedy_action(response: service_pb2.ActResponse) -> bool:
    return response.HasField("greedy_action") or response.HasField("structured_greedy_action")


def _action(response: service_pb2.ActResponse, name: str, space: ActionSpace) -> Any:
    if not isinstance(space, Dict | Tuple):
        return decode_tensor(getattr(response, name), name)
    field = f"structured_{name}"
    try:
        return as_gymnasium(decode_value(getattr(response, field), space, field), space)
    except KeyError as error:
        raise InvalidRequestError(field, f"the parts of {space}", f"none called {error}") from error


def translate(error: Any, target: Endpoint, seconds: float) -> PolicyServiceError:
    """The exception that the failure of a call means.

    Args:
        error: gRPC's own.
        target: Whom the call was made to.
        seconds: How long it was given.
    """
    trailing = error.trailing_metadata() or ()
    failure = decode_error(read_status(error.code().value[0], error.details() or "", trailing))
    if any(key == DETAILS_KEY for key, _ in trailing):
        return failure  # the server's own words
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
    """What there is to say of a call, or of a session's step, that was not answered in the seconds it was given.

    Args:
        target: Whom it was made to.
        seconds: How long it was given.
        what: What has a timeout: the call or the session.
    """
    return DeadlineExceededError(
        f"no answer from {target} within {seconds:g} s; is it the right address? If the server is just slow, "
        f"give the {what} a longer timeout"
    )


def _number(table: dict[str, Any], name: str, field: str) -> Any:
    if name not in table:
        raise InvalidRequestError(field, f"one of {', '.join(table)}", repr(name))
    return table[name]
