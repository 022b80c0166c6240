"""The spaces that simulators declare. All simulators of a run must declare the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from pgkeras.errors import ConfigError, InvalidRequestError, UnsupportedSpaceError
from pgkeras.files import write_whole
from pgkeras.protocol.wire import decode_space, encode_space, space_size
from pgkeras.spaces import ActionSpace, Space, Text, leaves
from pgkeras.spaces.difference import check_same
from pgkeras.v1 import service_pb2, spaces_pb2

__all__ = ["SPACES", "Declaration"]

SPACES = "spaces.json"
"""Name of the file in a run's directory with the declared spaces."""

# Limit for the observation and for the action's distribution. The first simulator's declaration determines the network,
# and a larger one would not fit into memory.
_MAX_SIZE = 10_000_000


@dataclass(frozen=True)
class Declaration:
    """The spaces of a run's simulators.

    Args:
        observation_space: The observation space.
        action_space: The action space.
        masked: Whether simulators send action masks.
    """

    observation_space: Space
    action_space: ActionSpace
    masked: bool = False

    @classmethod
    def of(cls, request: service_pb2.PlayRequest) -> Declaration:
        """Returns the declaration in the first message of a session.

        Raises:
            InvalidRequestError: A space is missing or not supported; the error names the field.
        """
        simulator = request.simulator
        try:
            observation = _decode("simulator.observation_space", simulator.observation_space)
            action = _decode("simulator.action_space", simulator.action_space)
            return cls._checked(observation, action, request.HasField("action_mask"))
        except UnsupportedSpaceError as error:
            raise InvalidRequestError("simulator", "supported spaces", str(error)) from error

    @classmethod
    def read(cls, file: Path) -> Declaration:
        """Reads a declaration from a JSON file with ``observationSpace`` and ``actionSpace``, as in ``GetPolicy``.

        Raises:
            ConfigError: The file cannot be read or is invalid.
            UnsupportedSpaceError: A space is not supported.
        """
        try:
            data = json.loads(file.read_text())
            if not isinstance(data, Mapping):
                raise ConfigError(f"{file}: expected an object with observationSpace and actionSpace")
            if not isinstance(data.get("masked", False), bool):
                raise ConfigError(f"{file}: masked: expected true or false, got {data['masked']!r}")
            simulator = json_format.ParseDict({k: v for k, v in data.items() if k != "masked"}, service_pb2.Simulator())
            observation = _decode("observationSpace", simulator.observation_space)
            action = _decode("actionSpace", simulator.action_space)
        except OSError as error:
            raise ConfigError(f"cannot read {file}: {error.strerror}") from error
        except (ValueError, json_format.ParseError) as error:  # InvalidRequestError among them
            raise ConfigError(f"{file}: {error}") from error
        return cls._checked(observation, action, data.get("masked", False))

    def write(self, file: Path) -> None:
        """Writes the file that :meth:`read` reads.

        Raises:
            RunError: The file cannot be written.
        """
        message = service_pb2.Simulator(
            observation_space=encode_space(self.observation_space), action_space=encode_space(self.action_space)
        )
        write_whole(file, json.dumps({**json_format.MessageToDict(message), "masked": self.masked}, indent=2) + "\n")

    @classmethod
    def _checked(cls, observation: Space, action: Any, masked: bool) -> Declaration:
        for path, leaf in leaves(observation):
            if isinstance(leaf, Text) and not leaf.vocabulary:
                raise UnsupportedSpaceError(f"observation space {'.'.join(path)}: a Text space must have a vocabulary")
        if any(isinstance(leaf, Text) for _, leaf in leaves(action)):
            raise UnsupportedSpaceError(f"action space {action} is not supported: expected numbers or choices")
        return cls(observation, action, masked)

    def check(self, other: Declaration) -> None:
        """Checks that another declaration has the same spaces.

        Raises:
            InvalidRequestError: A space differs; the error names the field and both spaces.
        """
        for name in ("observation_space", "action_space"):
            check_same(f"simulator.{name}", "that of this run", getattr(self, name), getattr(other, name))


def _decode(field: str, message: spaces_pb2.Space) -> Any:
    if message.WhichOneof("kind") is None:
        raise InvalidRequestError(field, "a space", "none")
    if (size := space_size(message)) > _MAX_SIZE:
        raise InvalidRequestError(field, f"a space of at most {_MAX_SIZE:,} numbers", f"{size:,}")
    try:
        return decode_space(message)
    except ValueError as error:
        raise InvalidRequestError(field, "a space", str(error)) from error
