"""The declaration of a simulator, sent when it opens a session."""

from __future__ import annotations

import sys
from typing import Any

from pgkeras.protocol.wire import encode_space
from pgkeras.spaces import Space, actions_from_gymnasium, observations_from_gymnasium
from pgkeras.v1 import service_pb2

__all__ = ["declare"]


def declare(observation_space: Any, action_space: Any, environments: int = 0, name: str = "") -> service_pb2.Simulator:
    """Builds the message; see :meth:`pgkeras.client.PolicyClient.play`.

    Raises:
        UnsupportedSpaceError: A space is not supported.
    """
    return service_pb2.Simulator(
        observation_space=encode_space(_ours(observation_space, observations_from_gymnasium)),
        action_space=encode_space(_ours(action_space, actions_from_gymnasium)),
        environments=environments,
        name=name,
    )


def _ours(space: Any, convert: Any) -> Space:
    gymnasium = sys.modules.get("gymnasium")  # imported already if the space is one of its spaces
    ours: Space = convert(space) if gymnasium is not None and isinstance(space, gymnasium.Space) else space
    return ours
